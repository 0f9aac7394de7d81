"""`python -m vq_calib`, which torchrun starts."""

from vq_calib.cli import main

main()
