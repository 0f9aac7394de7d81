"""Make videos from a quantized checkpoint."""
