"""Transformer blocks with their element-wise passes fused: one kernel between two matrix products.

Each operation is a pair of files with one signature: plain torch, which says what is computed and runs anywhere, and a
Triton kernel beside it, `…_triton.py`, which runs on CUDA. `ops` chooses between the two.
"""
