"""What a video needs of memory, what is free, and the plan between them; blocks that wait on the host.

`engine`, `doctor` and `bench` import this room.
"""
