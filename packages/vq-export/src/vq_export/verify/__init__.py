"""`verify`: a finished checkpoint, read cold and held against the model that it was made from.

`targets` import this room for their verifier, and the command.
"""
