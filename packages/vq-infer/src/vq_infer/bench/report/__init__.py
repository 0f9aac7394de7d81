"""What `bench` writes: JSON, a page, a chart.

Only `bench` imports this room.
"""
