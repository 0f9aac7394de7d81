"""What a hook does with the input of a linear: sums, histograms, sampled rows, outliers.

`collection` imports this room.
"""
