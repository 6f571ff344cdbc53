"""The process: one thread, one loop."""
