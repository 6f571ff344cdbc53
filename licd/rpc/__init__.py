"""What is said on the socket: bytes, errors, a client."""
