"""`smooth`: the smoothers, one file each, and the traversal that folds the s of each group.

`rounding`, which reads rescaled inputs, and the command import this room.
"""
