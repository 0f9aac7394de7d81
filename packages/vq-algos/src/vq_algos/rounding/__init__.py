"""`quantize`: the codes of each linear, one rounder a file, and the traversal that applies them.

`sensitivity` and the command import this room.
"""
