"""The artifacts that stages exchange, one module a kind: how each is laid out, opened and read.

Stages import this room; of vq_core only `cli` and `testing` may.
"""
