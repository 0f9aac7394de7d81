"""Manifests of any kind, found by their digest: what an artifact was made from, and what that was made from."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from vq_core.store.manifest import FILE_NAME, Manifest


def digest_of(folder: Path) -> str | None:
    """The digest of the manifest in `folder`, computed anew; None where there is none that can be read."""
    manifest = _read(folder)
    return None if manifest is None else manifest.digest()


def find_manifests(folders: Iterable[Path]) -> Mapping[str, Manifest]:
    """By digest, every manifest in one of `folders` or in a folder directly below it."""
    places = {place for folder in folders for place in (folder, *_folders_in(folder))}
    manifests = filter(None, map(_read, sorted(places)))
    return {manifest.digest(): manifest for manifest in manifests}


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _read(folder: Path) -> Manifest | None:
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        return Manifest.model_validate({key: value for key, value in content.items() if key != "digest"})
    except (OSError, ValueError, AttributeError):
        return None  # no artifact, or none that this version knows: then nothing is said of it
