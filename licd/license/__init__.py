"""What the vendor signed, and what it grants."""
