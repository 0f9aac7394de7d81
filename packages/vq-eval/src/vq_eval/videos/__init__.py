"""Making the videos that are compared: simulated quantization, its variants, the cached reference.

`layers`, `trajectories` and the command import this room.
"""
