"""Smoothing and quantization of a video diffusion transformer, solved offline from weights and statistics."""
