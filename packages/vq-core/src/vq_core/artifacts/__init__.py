"""The artifacts that stages exchange, one module each: how each is laid out, opened and read."""
