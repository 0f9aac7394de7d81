"""`smooth`: the factors of each group, one smoother a file, and the traversal that folds them.

`rounding`, which reads rescaled inputs, and the command import this room.
"""
