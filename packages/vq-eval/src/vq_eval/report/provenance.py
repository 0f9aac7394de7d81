"""The chain of artifacts behind every row, from the videos to the model, and manifests found by their digest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from vq_core.errors import VqError
from vq_core.files.given_file import read_given
from vq_core.files.json_file import parse_json
from vq_core.store.manifest import FILE_NAME, Manifest
from vq_eval.compare.schema import Provenance, Row

ROAD = ("lightx2v-checkpoint", "quant-params", "smoothed-weights", "activation-stats")
"""The order of artifacts from the videos to the model; other kinds come first."""


@dataclass(frozen=True)
class Link:
    """One artifact of a chain, or the model at its end.

    Attributes:
        kind: of the artifact, or `model`.
        name: of the model; empty for artifacts.
        digest: of the manifest; for the model, the fingerprints of its transformers.
        tool: the tool and its version; None where the artifact was not found and only the digest is known.
        settings: as text.
    """

    kind: str
    name: str
    digest: str
    tool: str | None
    settings: Mapping[str, str]


def chains_of(rows: Iterable[Row], artifacts: Iterable[Path]) -> dict[str, tuple[Link, ...]]:
    """The chain of every row that has a manifest, from its videos to the model.

    Parents are found by digest, beside the videos and in `artifacts`; of a parent that is not found, only the digest is
    known.
    """
    provenances = {row.name: row.provenance for row in rows if row.provenance is not None}
    beside = [Path(it.path).resolve().parent for it in provenances.values() if "://" not in it.path]
    manifests = find_manifests([*beside, *artifacts])
    return {name: _chain(provenance, manifests) for name, provenance in provenances.items()}


def _chain(videos: Provenance, manifests: Mapping[str, Manifest]) -> tuple[Link, ...]:
    found: dict[str, Link] = {}
    pending = list(videos.parents.items())
    while pending:
        kind, digest = pending.pop(0)
        if digest in found:
            continue
        manifest = manifests.get(digest)
        if manifest is None:
            found[digest] = Link(kind, "", digest, None, {})
            continue
        found[digest] = Link(manifest.kind, "", digest, manifest.tool, _texts(manifest.settings))
        pending += manifest.parents.items()
    parents = sorted(found.values(), key=lambda link: ROAD.index(link.kind) if link.kind in ROAD else -1)
    fingerprints = ", ".join(videos.fingerprints.values())
    return (
        Link("videos", videos.variant, videos.digest, videos.tool, _texts(videos.settings)),
        *parents,
        Link("model", videos.model, fingerprints, videos.family, {}),
    )


def _texts(settings: Mapping[str, JsonValue]) -> dict[str, str]:
    """Settings that have a value, as text; the key of a nested one is `outer.inner`."""
    texts: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            texts |= {f"{key}.{inner}": text for inner, text in _texts(value).items()}
        elif isinstance(value, list):
            texts |= {key: ", ".join(map(str, value))} if value and not isinstance(value[0], (dict, list)) else {}
        elif value is not None:
            texts[key] = str(value)
    return texts


def digest_of(folder: Path) -> str | None:
    """The digest of the manifest in `folder`, computed from its content; None where none can be read."""
    manifest = _read(folder)
    return None if manifest is None else manifest.digest()


def find_manifests(folders: Iterable[Path]) -> Mapping[str, Manifest]:
    """Every manifest in one of `folders` or in a folder directly below it, by digest."""
    places = {place for folder in folders for place in (folder, *_folders_in(folder))}
    manifests = filter(None, map(_read, sorted(places)))
    return {manifest.digest(): manifest for manifest in manifests}


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _read(folder: Path) -> Manifest | None:
    try:
        content = parse_json(read_given(folder / FILE_NAME))
        return Manifest.model_validate({key: value for key, value in content.items() if key != "digest"})
    except (VqError, OSError, ValueError, AttributeError):
        return None  # no artifact, or none that this version can read
