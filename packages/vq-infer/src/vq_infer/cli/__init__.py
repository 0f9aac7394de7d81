"""The command `vq-infer`: options in, one call of another room, a report out. Nothing imports this room."""

from vq_infer.cli.commands import app, main

__all__ = ["app", "main"]
