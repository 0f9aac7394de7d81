"""`collect` and `merge`: the run over all prompts, its totals on disk, its ranks, and the merge of its parts.

Only the command imports this room.
"""
