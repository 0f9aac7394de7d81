"""The subjects of `bench`: the contenders, their weights and the workload.

Only `bench` imports this room.
"""
