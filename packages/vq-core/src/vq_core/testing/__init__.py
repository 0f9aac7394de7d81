"""Tiny models of every Wan variant, and artifacts of any model, for tests and tools.

No stage imports this room.
"""
