"""What time it is on this machine."""
