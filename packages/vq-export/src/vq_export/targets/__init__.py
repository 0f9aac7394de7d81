"""Export targets, one module each; a target's name is its module's name and its sub-command."""

from pathlib import Path
from typing import Protocol, cast

from vq_core.discover import load_plugin
from vq_export.quantized_model import QuantizedModel


class Target(Protocol):
    """What a target's module provides."""

    def export(self, model: QuantizedModel, output: Path, *, resume: bool) -> None:
        """Write `model` to the folder `output`, block by block."""


def target_named(name: str) -> Target:
    """The target called `name`; refuses an unknown name."""
    return cast(Target, load_plugin(__name__, name))
