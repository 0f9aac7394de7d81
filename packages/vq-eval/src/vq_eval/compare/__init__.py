"""`compare`: folders of videos, their metrics with intervals, the gate.

`report` and the command import this room.
"""
