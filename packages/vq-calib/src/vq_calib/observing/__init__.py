"""What hooks gather from the inputs of linears: sums, histograms, sampled rows, outliers.

`collection` imports this room.
"""
