"""Paths and URIs alike: where something lies, copied here to be read, delivered when it is finished.

`store` and everything above it may import this room.
"""
