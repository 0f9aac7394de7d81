"""The chain behind every row: videos, what they were made from, what that was made from, down to the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from vq_core.store.manifest import Manifest
from vq_eval.compare.schema import Provenance, Row
from vq_eval.report.manifests import find_manifests

ROAD = ("lightx2v-checkpoint", "quant-params", "smoothed-weights", "activation-stats")
"""The order in which artifacts are shown, from the videos to the model; other kinds come first."""


@dataclass(frozen=True)
class Link:
    """One artifact of a chain, or the model at its end.

    Attributes:
        kind: of the artifact, or `model`.
        name: of the model; empty for artifacts.
        digest: of its manifest; of the model the fingerprints of its transformers.
        tool: and version that wrote it; None where only the digest is known, because the artifact is not at hand.
        settings: what was decided, as text.
    """

    kind: str
    name: str
    digest: str
    tool: str | None
    settings: Mapping[str, str]


def chains_of(rows: Iterable[Row], artifacts: Iterable[Path]) -> dict[str, tuple[Link, ...]]:
    """The chain of every row that has a manifest, from its videos to the model.

    Parents are looked for beside the videos and in `artifacts`, by digest; of one that is not there, only
    the digest is known.
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
    """Settings that say something, as text; those of a nested one by `outer.inner`."""
    texts: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            texts |= {f"{key}.{inner}": text for inner, text in _texts(value).items()}
        elif isinstance(value, list):
            texts |= {key: ", ".join(map(str, value))} if value and not isinstance(value[0], (dict, list)) else {}
        elif value is not None:
            texts[key] = str(value)
    return texts
