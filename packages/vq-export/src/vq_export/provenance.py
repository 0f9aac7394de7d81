"""How a checkpoint was made, as every safetensors file says in its header under the key `vq`, and the manifest.

`{"artifact", "tool", "model", "family", "component", "shard", "fingerprint", "lora", "settings", "parents", "linears"}`
is JSON in one string, because safetensors stores strings alone. Loaders skip metadata; a file that was taken out of its
folder still says what it is.
"""

import json
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from vq_core.errors import VqError
from vq_core.files.tensor_file import read_metadata
from vq_export.model.quantized_model import TOOL, QuantizedModel

METADATA_KEY = "vq"
KEYS = {
    "artifact", "tool", "model", "family", "component", "shard",
    "fingerprint", "lora", "settings", "parents", "linears",
}  # fmt: skip
"""What the metadata of a file say."""
TOLD = (
    "method", "rotation", "centered", "kept",
    "weight_snr_db", "output_snr_db", "rtn_output_snr_db", "bias_corrected",
)  # fmt: skip
"""What is told of the decision about a linear: how it was rounded, and its errors."""


def provenance_settings(model: QuantizedModel) -> dict[str, JsonValue]:
    """The settings of every stage behind `model`, as the manifest has them."""
    return {
        "scheme": model.scheme,
        "gains": model.has_gains,
        **({"kept": model.kept} if model.kept else {}),
        **model.settings,
        "tools": dict(model.tools),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, JsonValue]:
    """Versions of Python and the libraries that compute and write."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in ("torch", "safetensors")},
    }


def linears_of(model: QuantizedModel, component: str, linears: Iterable[str]) -> dict[str, JsonValue]:
    """How each of `linears` was rounded, and its error; a model that is converted must have been read before."""
    decided = {linear: model.components[component].decided(linear) for linear in linears}
    return {name: {key: how[key] for key in TOLD if key in how} for name, how in decided.items()}


def file_metadata(
    model: QuantizedModel, artifact: str, component: str, part: str, linears: Iterable[str]
) -> dict[str, str]:
    """Metadata of the file that holds `part` of `component`, with what `linears_of` says of `linears`."""
    content: dict[str, object] = {
        "artifact": artifact,
        "tool": TOOL,
        "model": model.model,
        "family": model.family_name,
        "component": component,
        "shard": part,
        "fingerprint": model.components[component].fingerprint,
        "lora": list(model.components[component].lora),
        "settings": provenance_settings(model),
        "parents": dict(model.parents),
        "linears": linears_of(model, component, linears),
    }
    return {METADATA_KEY: json.dumps(content, ensure_ascii=False)}


def read_provenance(path: Path) -> dict[str, Any]:
    """What the safetensors file `path` says of how it was made.

    Raises:
        VqError: it is no safetensors file, or does not say it.
    """
    try:
        content = json.loads(read_metadata(path)[METADATA_KEY])
    except (KeyError, ValueError):
        raise VqError(
            f"{path} does not say how it was quantized (no `{METADATA_KEY}` in its metadata): "
            "give a file or folder that vq-export wrote."
        ) from None
    if not isinstance(content, dict) or not content.keys() >= KEYS:
        raise VqError(f"The `{METADATA_KEY}` metadata of {path} are not whole: give a file that vq-export wrote.")
    return content
