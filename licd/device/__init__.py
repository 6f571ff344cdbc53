"""What this machine is, and what time it is there."""
