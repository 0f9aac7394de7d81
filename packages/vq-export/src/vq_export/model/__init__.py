"""The quantized model to export, from artifacts, from a plain model or from what others quantized.

`targets`, `verify` and the command import this room.
"""
