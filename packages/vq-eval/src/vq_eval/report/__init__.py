"""The report of a comparison: one folder of HTML, videos and pictures that opens from disk, without a network."""
