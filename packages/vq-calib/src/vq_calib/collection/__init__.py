"""`collect` and `merge`: the run over all prompts, its totals on disk, its ranks, and the parts made one.

Only the command imports this room.
"""
