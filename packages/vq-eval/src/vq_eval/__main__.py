"""`python -m vq_eval`, which torchrun starts."""

from vq_eval.cli import main

main()
