"""`python -m vq_infer`, for torchrun."""

from vq_infer.cli import main

main()
