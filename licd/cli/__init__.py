"""licd-cli: what people type, and what they see."""
