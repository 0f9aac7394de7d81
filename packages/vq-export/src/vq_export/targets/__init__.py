"""Export targets, one module each; a target's name is its module's name and its sub-command."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from vq_core.discover import load_plugin, plugin_names
from vq_core.remote.location import Location

if TYPE_CHECKING:  # the command line lists the targets, and must not import torch for it
    from vq_core.store.writer import Check
    from vq_export.model.quantized_model import QuantizedModel
    from vq_export.verify.verify import Verifier


class Target(Protocol):
    """What a target's module provides.

    Attributes:
        VERIFIER: reads back what `export` wrote.
    """

    VERIFIER: "Verifier"

    def export(
        self, model: "QuantizedModel", output: Location, *, resume: bool = False, check: "Check | None" = None
    ) -> None:
        """Write `model` to the folder `output`, block by block, and let `check` see it before it gets its name."""

    def notes(self, model: "QuantizedModel") -> dict[str, str]:
        """Lines of the summary about what was written besides tensors."""

    def next_steps(self, model: "QuantizedModel", output: Location) -> str:
        """What the user can do next with `model` in the folder `output`."""


def target_names() -> list[str]:
    """Names of all targets, sorted."""
    return plugin_names(__name__)


def target_summary(name: str) -> str:
    """First line of the docstring of target `name`, read from its source: importing it takes seconds."""
    spec = find_spec(f"{__name__}.{name}")
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def target_named(name: str) -> Target:
    """The target called `name`; refuses an unknown name."""
    return cast(Target, load_plugin(__name__, name))
