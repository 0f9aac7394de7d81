"""How `bench` measures: steps, kernels by kind, the machine's ceilings and the floor below them.

Only `bench` imports this room.
"""
