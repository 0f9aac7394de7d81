"""`python -m vq_infer`, which torchrun starts."""

from vq_infer.cli import main

main()
