"""Transformer blocks with their element-wise passes fused: one kernel between two matrix products.

Each file of operations has a twin with the same signatures: plain torch, which says what is computed and runs anywhere,
and `…_triton.py`, Triton kernels, which run on CUDA. `ops` chooses between the two.
"""
