"""Several processes for one video: guidance split, tokens split (Ulysses, ring).

`engine` and the options import this room.
"""
