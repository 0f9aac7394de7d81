"""The catalogue of broken checkpoints, and how one of them is broken and judged."""

from dataclasses import dataclass
from pathlib import Path

from broken_checkpoints.configs import CONFIGS
from broken_checkpoints.content import Broken, Content
from broken_checkpoints.example import Example
from broken_checkpoints.files import FILES
from broken_checkpoints.functions import FUNCTIONS
from broken_checkpoints.tensors import TENSORS
from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_export.verify.reference import model_reference
from vq_export.verify.verify import verify

CATALOGUE: dict[str, tuple[Broken, ...]] = {
    "Files": FILES,
    "Tensors": TENSORS,
    "Another function": FUNCTIONS,
    "Configuration": CONFIGS,
}
SHOWN = "CKPT"
"""Stands for the checkpoint's folder in what verify says."""


@dataclass(frozen=True)
class Verdict:
    """Exit code and sentences of `vq-export verify`: its problems, or one refusal."""

    code: int
    sentences: tuple[str, ...]


def break_example(broken: Broken, example: Example, folder: Path) -> Path:
    """A copy of `example` in the new `folder`, broken."""
    content = Content(example.checkpoint, folder)
    broken.edit(content)
    if not broken.damaged:
        content.seal()
    return folder


def judge(folder: Path, model: Path | None) -> Verdict:
    """Verify the checkpoint in `folder`, with the model that it was made from or without."""
    try:
        checkpoint = open_checkpoint(folder)
        reference = None if model is None else model_reference(open_source(str(model)), checkpoint)
        problems = verify(checkpoint, reference).problems
    except VqError as error:
        return Verdict(2, (str(error).replace(str(folder), SHOWN),))
    return Verdict(1 if problems else 0, tuple(problem.replace(str(folder), SHOWN) for problem in problems))
