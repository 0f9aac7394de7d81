"""A folder on disk with a manifest: written atomically and resumably, read with every promise checked.

`model` and everything above it may import this room.
"""
