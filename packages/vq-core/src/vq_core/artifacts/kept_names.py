"""The names of linears that stay in full precision, as manifests say them."""

from collections.abc import Collection
from pathlib import Path

from vq_core.errors import VqError

KEPT = "kept"
"""The key that they stand under."""


def kept_names(said: object, component: str, known: Collection[str], path: Path) -> frozenset[str]:
    """Those of `component`, whose linears are `known`; `said` is what the manifest in `path` has under `KEPT`.

    Raises:
        VqError: it is no list of these.
    """
    of_component = said.get(component, []) if isinstance(said, dict) else said
    names = of_component if isinstance(of_component, list) else [of_component]
    if unknown := [name for name in names if not isinstance(name, str) or name not in known]:
        raise VqError(
            f"{path} keeps {unknown[0]!r:.80} in full precision, which is none of its linears: make it again."
        )
    return frozenset(names)
