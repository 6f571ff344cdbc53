"""HTTPS to the vendor's server. Only licd-cli uses it: the daemon has no network."""
