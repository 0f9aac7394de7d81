"""The grade as metrics of `vq-eval compare`, found through the entry points `vq_eval.metrics`.

Each module fulfils `vq_eval.metrics.Metric`, which is not imported: packages meet in what they offer. A grade compares
with no other video, so that full precision has one too, and what quantization costs is the difference.
"""
