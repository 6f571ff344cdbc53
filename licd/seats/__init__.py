"""Who holds what: decided, applied, recorded."""
