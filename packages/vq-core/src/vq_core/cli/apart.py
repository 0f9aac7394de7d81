"""An output that lies in an input or an artifact is refused: neither would be whole any more.

Free of heavy imports, as all that runs before a command.
"""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from vq_core.cli.options import INPUT, OUTPUT
from vq_core.errors import VqError

SEARCHED = "artifacts"
"""An option with folders in which only to look for artifacts; an output may lie beside those."""


def require_apart(options: Any) -> None:
    """Refuse `options`, a dataclass of typer's options, where an output lies in an input or an artifact.

    Raises:
        VqError: names both.
    """
    inputs = [folder for name, value in _said(options, INPUT) if name != SEARCHED for folder in _folders(value)]
    for _, output in _said(options, OUTPUT):
        if isinstance(output, Path):
            place = Path(os.path.realpath(output.parent))  # Path's own fails at a link that leads back to itself
            for folder in inputs:
                if place.is_relative_to(os.path.realpath(folder)):
                    raise VqError(f"{output} lies inside the input {folder}: choose another place for the output.")
            for folder in (place, *place.parents):
                if (folder / "manifest.json").is_file() and _is_artifact(folder):
                    raise VqError(f"{output} lies inside the artifact {folder}: choose another place for the output.")


def _is_artifact(folder: Path) -> bool:
    from vq_core.store.manifest import kind_of

    return kind_of(folder) is not None


def _said(options: Any, panel: str) -> Iterator[tuple[str, Any]]:
    """Name and value of every option in `panel`; arguments, which have none, are inputs."""
    for field in fields(options):
        declared = field.type.__metadata__[-1]  # type: ignore[union-attr]
        if (getattr(declared, "rich_help_panel", None) or INPUT) == panel:
            yield field.name, getattr(options, field.name)


def _folders(value: Any) -> Iterator[Path]:
    """The folders with files in them that an option names, also as the path of `NAME=PATH`."""
    for said in value if isinstance(value, list) else [value]:
        if isinstance(said, Path | str):
            for text in {str(said), str(said).partition("=")[2]} - {""}:
                # Path's own fails at a prompt, which is longer than a name may be.
                if os.path.isdir(text) and any(path.is_file() for path in Path(text).glob("[!.]*")):  # noqa: PTH112
                    yield Path(text)
