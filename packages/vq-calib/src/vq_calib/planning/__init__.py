"""A run before anything is run: prompts, calls of the transformer, and which tokens will be sampled.

`observing` and `collection` import this room.
"""
