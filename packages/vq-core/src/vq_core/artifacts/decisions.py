"""Decisions, in JSON beside their tensors: `block_0.json` beside `block_0.safetensors`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Protocol

import torch
from torch import Tensor

from vq_core.files.write_behind import write_behind
from vq_core.store.reader import Artifact
from vq_core.store.writer import ArtifactWriter


def has_decided(writer: ArtifactWriter, file: str) -> bool:
    """Are both the tensors in `file` and the decisions beside them finished?"""
    return writer.has(file) and writer.has(_beside(file))


def drafted_decisions(writer: ArtifactWriter, file: str) -> dict[str, Any]:
    """The decisions beside the tensors in `file`, which are finished."""
    decisions: dict[str, Any] = json.loads(writer.path(_beside(file)).read_text(encoding="utf-8"))
    return decisions


class WriteDecided(Protocol):
    """`write_decided`, at once or in a background thread."""

    def __call__(
        self, writer: ArtifactWriter, file: str, tensors: Mapping[str, Tensor], decisions: Mapping[str, Any]
    ) -> None:
        """Write `tensors` to `file` and `decisions` beside them."""


def write_decided(
    writer: ArtifactWriter, file: str, tensors: Mapping[str, Tensor], decisions: Mapping[str, Any]
) -> None:
    """Write `tensors` to `file` and `decisions` beside them; the decisions first, so that no tensors lack theirs."""
    writer.draft_tensors(file, tensors)
    _publish(writer, file, decisions)


def _publish(writer: ArtifactWriter, file: str, decisions: Mapping[str, Any]) -> None:
    writer.write_text(_beside(file), json.dumps(decisions, indent=1) + "\n")
    writer.publish(file)


@contextmanager
def written_behind(device: str) -> Iterator[WriteDecided]:
    """`write_decided` in background threads if `device` is a GPU.

    While the GPU computes a block, the block before is written and the one before that is flushed to the disk. On the
    CPU each block is written at once, because the next one needs the same memory and cores.
    """
    if torch.device(device).type == "cpu":
        yield write_decided
        return
    with write_behind() as publish, write_behind() as draft:

        def drafted(
            writer: ArtifactWriter, file: str, tensors: Mapping[str, Tensor], decisions: Mapping[str, Any]
        ) -> None:
            writer.draft_tensors(file, tensors)
            publish(_publish, writer, file, decisions)

        yield lambda writer, file, tensors, decisions: draft(drafted, writer, file, tensors, decisions)


def read_decisions(artifact: Artifact, component: str) -> dict[str, Any]:
    """All decisions about one component of `artifact`, ordered by file name.

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
