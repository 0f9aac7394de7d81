"""Quantization arithmetic: one implementation, used by search, export, simulation and tests."""
