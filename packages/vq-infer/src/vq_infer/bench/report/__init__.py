"""The output of `bench`: JSON, a page, a chart.

Only `bench` imports this room.
"""
