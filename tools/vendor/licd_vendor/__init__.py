"""licd-vendor, the vendor's side of licd: keys, certificates and signed documents."""
