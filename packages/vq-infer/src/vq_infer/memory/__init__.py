"""The memory that a video needs, the memory that is free, and the plan from both; blocks that wait on the host.

`engine`, `doctor` and `bench` import this room.
"""
