"""licd, the license server of a self-checkout device."""

__version__ = "0.1.0"
