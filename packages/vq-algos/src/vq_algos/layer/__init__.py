"""One linear as algorithms see it: the tokens that it reads, their Hessian, and its error on held-out tokens.

`smoothing`, `rounding` and `sensitivity` import this room.
"""
