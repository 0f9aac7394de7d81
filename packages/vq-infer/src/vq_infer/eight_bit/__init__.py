"""Attention on 8-bit codes of q, k and v, as kernels and in plain torch."""
