"""The native engine: a converted checkpoint as diffusers' transformer on codes, for one video or many.

`bench`, `doctor` and the command import this room.
"""
