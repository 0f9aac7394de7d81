"""Reading a transformer as it comes: any layout, its names and configuration, LoRAs merged as tensors are read.

`recipes` and everything above it may import this room.
"""
