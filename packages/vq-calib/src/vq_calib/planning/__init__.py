"""The plan of a run before it starts: prompts, calls of the transformer, and which tokens will be sampled.

`observing` and `collection` import this room.
"""
