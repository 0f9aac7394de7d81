"""Tiny models of every Wan variant, for tests and tools.

No stage imports this room.
"""
