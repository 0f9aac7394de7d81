"""Quantized checkpoints in the layouts that runtimes load, and their cold verification."""
