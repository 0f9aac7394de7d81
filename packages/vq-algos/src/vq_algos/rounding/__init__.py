"""`quantize`: the rounders, one file each, and the traversal that applies them to each linear.

`sensitivity` and the command import this room.
"""
