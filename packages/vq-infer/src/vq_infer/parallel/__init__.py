"""Several processes for one video: they split guidance, or tokens (Ulysses, ring).

`engine` and the options import this room.
"""
