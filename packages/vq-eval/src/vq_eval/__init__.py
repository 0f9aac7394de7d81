"""Simulate quantization in the full pipeline, and compare videos."""
