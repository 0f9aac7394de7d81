"""What stands beside the weights of a LightX2V checkpoint: run configs, a run script, where it comes from.

`targets` and `verify` import this room.
"""
