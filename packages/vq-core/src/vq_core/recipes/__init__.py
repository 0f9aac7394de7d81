"""Settings in YAML: our recipes and LLMC's, and the names of those and of the prompt sets that come along.

`sampling` and everything above it may import this room.
"""
