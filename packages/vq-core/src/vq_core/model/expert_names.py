"""Which of two experts a file says that it is for, in its name or in what its writer has noted."""

import re
from collections.abc import Mapping
from pathlib import Path

from vq_core.files.tensor_file import read_metadata

EXPERTS = {"high": "transformer", "low": "transformer_2"}
"""The component of the expert for high and for low noise."""
MAX_NOTE = 300  # characters; a longer note is no name
_WITH_NOISE = re.compile(r"(high|low)[ _.-]?noise", re.IGNORECASE)
_ALONE = re.compile(r"(?<![a-z])(high|low)(?![a-z]|[ _.-]?(?:rank|res|vram)(?![a-z]))", re.IGNORECASE)


def expert_of(path: Path) -> str | None:
    """The component that the safetensors file `path` says it is for: by its name, its metadata, or its folder's name.

    Raises:
        VqError: it is not a safetensors file.
    """
    return expert_in(path.stem) or expert_noted(read_metadata(path)) or expert_noted({"folder": path.parent.name})


def expert_in(name: str) -> str | None:
    """The component that a file called `name` is for; None where it names none of the experts, or both."""
    return _only_one(_WITH_NOISE.findall(name)) or _only_one(_ALONE.findall(name))


def expert_noted(metadata: Mapping[str, str]) -> str | None:
    """The component that the `metadata` of a file say it is for, as musubi-tuner notes the model it has trained."""
    notes = [note for note in metadata.values() if len(note) <= MAX_NOTE]
    return _only_one([word for note in notes for word in _WITH_NOISE.findall(note)])


def _only_one(words: list[str]) -> str | None:
    said = {word.lower() for word in words}
    return EXPERTS[said.pop()] if len(said) == 1 else None
