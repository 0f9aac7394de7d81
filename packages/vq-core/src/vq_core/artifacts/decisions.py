"""What was decided, in JSON beside the tensors it was decided for: `block_0.json` beside `block_0.safetensors`."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor

from vq_core.store import Artifact, ArtifactWriter


def write_decided(
    writer: ArtifactWriter, file: str, tensors: Mapping[str, Tensor], decisions: Mapping[str, Any]
) -> None:
    """Write `tensors` to `file` and `decisions` beside them; where the tensors are, their decisions are too."""
    writer.write_text(_beside(file), json.dumps(decisions, indent=1) + "\n")
    writer.write_tensors(file, tensors)


def read_decisions(artifact: Artifact, component: str) -> dict[str, Any]:
    """All decisions about one component of `artifact`, in the order of the files' names.

    Raises:
        VqError: a file is not the one that was written.
    """
    files = sorted({_beside(entry.file) for entry in artifact.manifest.components[component].tensors.values()})
    decisions: dict[str, Any] = {}
    for file in files:
        artifact.verify_file(file)
        decisions |= json.loads((artifact.path / file).read_text(encoding="utf-8"))
    return decisions


def _beside(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(".json"))
