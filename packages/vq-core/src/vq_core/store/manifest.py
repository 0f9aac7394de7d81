"""The manifest of an artifact: what lies in the folder, of which model, made from what and how.

It is JSON with a format number that is read before anything else, and it carries its own digest, so that a manifest
edited by hand is recognised.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord, first_problem
from vq_core.files.given_file import is_inside, is_there
from vq_core.files.json_file import read_json

FILE_NAME = "manifest.json"


class FileEntry(DiskRecord):
    """One file of the artifact."""

    size: int
    sha256: str


class TensorEntry(DiskRecord):
    """One tensor: the file that holds it, safetensors' name of its dtype, its shape."""

    file: str
    dtype: str
    shape: list[int]


class LoraEntry(DiskRecord):
    """A LoRA that was merged into a transformer: name and SHA-256 of its file, and its strength."""

    file: str
    sha256: str
    strength: float


class ComponentEntry(DiskRecord):
    """One transformer of the model (Wan 2.2 has two)."""

    folder: str
    fingerprint: str
    config: dict[str, JsonValue]
    lora: list[LoraEntry]
    tensors: dict[str, TensorEntry]

    @property
    def merged(self) -> list[dict[str, JsonValue]]:
        """The LoRAs as JSON, for the header of an artifact that is made from this one."""
        return [entry.model_dump() for entry in self.lora]


class Manifest(DiskRecord):
    """Everything that is known of an artifact; see docs/formats/manifest.md."""

    kind: str
    format: int
    tool: str
    family: str
    model: str
    settings: dict[str, JsonValue]
    parents: dict[str, str]
    measured: dict[str, JsonValue]
    components: dict[str, ComponentEntry]
    files: dict[str, FileEntry]

    def digest(self) -> str:
        """SHA-256 of the manifest, and through the files' digests of the whole artifact."""
        return _digest(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """The text of manifest.json."""
        return (
            json.dumps({**self.model_dump(mode="json"), "digest": self.digest()}, indent=1, ensure_ascii=False) + "\n"
        )


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path, kind: str, fmt: int) -> Manifest:
    """The manifest of the artifact in `folder`, which must be a `kind` of format `fmt`.

    Raises:
        VqError: no manifest, another kind, another format, edited, not of the schema, or with a path that leads out of
            the folder.
    """
    path = folder / FILE_NAME
    if folder.name.endswith(".partial"):
        raise VqError(f"{folder} is unfinished: continue the run that wrote it with --resume.")
    if not is_there(path):
        raise VqError(
            f"{folder} is not a {kind} artifact (it has no {FILE_NAME}): give the folder that a stage has written."
        )
    content = read_json(path, damaged="make the artifact again")
    if not isinstance(content.get("format"), int):
        raise VqError(f"{path} has no format number: give the folder a stage has written.")
    if content.get("kind") != kind:
        raise VqError(f"{folder} holds {content.get('kind')}, and {kind} is needed here: give that one.")
    if content["format"] != fmt:
        newer = content["format"] > fmt
        advice = "upgrade vq-core" if newer else "make it again with this version"
        raise VqError(f"{folder} has {kind} format {content['format']} and this version reads {fmt}: {advice}.")
    require_own_digest(content, path)
    try:
        manifest = Manifest.model_validate({key: value for key, value in content.items() if key != "digest"})
    except ValidationError as error:
        raise VqError(f"{path} is not a valid manifest ({first_problem(error)}): make the artifact again.") from None
    folders = [entry.folder for entry in manifest.components.values() if entry.folder]
    if outside := [name for name in (*manifest.files, *folders) if not is_inside(name)]:
        raise VqError(f"{path} names {outside[0]}, which is not inside the artifact: make it again.")
    return manifest


def require_own_digest(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest, of whichever kind, that its own digest does not fit; `content` was read from `path`.

    Raises:
        VqError: it has no digest, or another one.
    """
    if content.get("digest") != _digest({key: value for key, value in content.items() if key != "digest"}):
        raise VqError(f"{path} does not match its own digest, so it was edited or damaged: make the artifact again.")


def kind_of(folder: Path) -> str | None:
    """The kind that the manifest in `folder` states, unchecked; None where there is no readable manifest."""
    try:
        return read_json(folder / FILE_NAME).get("kind")
    except (OSError, VqError):
        return None
