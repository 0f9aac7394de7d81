"""Attention on 8-bit codes of q, k and v: its kernels, and the same in plain torch."""
