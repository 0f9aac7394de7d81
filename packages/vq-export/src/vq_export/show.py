"""How a checkpoint was quantized: read from its manifest, or from the metadata of a single file of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vq_core.artifacts.converted import converted_manifest
from vq_core.artifacts.models_in_place import models_told
from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.model.already_quantized import IMPORTED
from vq_core.numerics.scheme import ROUNDING_NOTE, Rounding
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.store.manifest import FILE_NAME, Manifest
from vq_core.store.reader import Artifact
from vq_export.provenance import read_provenance
from vq_export.verify.verification import by_place

SHORT = 16
"""A digest is shown by so many digits."""


def provenance_of(location: Location) -> dict[str, Any]:
    """How the checkpoint at `location`, or the checkpoint of the safetensors file there, was made.

    `components` and `linears` are by component; for a single file they are those of the file, and `shard` names it.
    Only the manifest of a remote checkpoint is copied.

    Raises:
        VqError: `location` is no checkpoint, and no file with this metadata.
    """
    path = local_copy(location, only=[FILE_NAME])
    with models_told(location):
        if path.is_dir():
            return _of_manifest(converted_manifest(path))
        said = read_provenance(path)
        _require_in_place(path, said)
    name = said.pop("component")
    own = {key: said.pop(key) for key in ("fingerprint", "lora")}
    return {**said, "components": {name: own}, "linears": {name: said["linears"]}}


def _require_in_place(path: Path, said: Mapping[str, Any]) -> None:
    """Refuse a file of a checkpoint that lies where another part of it belongs, or that is not the one written."""
    for folder in (path.parent, path.parent.parent):
        if not is_there(folder / FILE_NAME):
            continue
        artifact, file = Artifact(folder, converted_manifest(folder)), path.relative_to(folder).as_posix()
        for name, component in artifact.manifest.components.items():
            of_file = (tensor for tensor in component.tensors.values() if tensor.file == file)
            if any(of_file) and (name, path.stem) != (said["component"], said["shard"]):
                raise VqError(
                    f"{path} says that it is {said['shard']} of {said['component']} and lies where {path.stem} of "
                    f"{name} belongs: convert the model again."
                )
        if file in artifact.manifest.files:
            artifact.verify_file(file)


def provenance_rows(said: Mapping[str, Any]) -> dict[str, str]:
    """The lines of the summary."""
    settings = said["settings"]
    rows = {
        "artifact": f"{said['artifact']}, written by {said['tool']}",
        "model": f"{said['model']} ({said['family']})",
    }
    if "shard" in said:
        rows["part"] = str(said["shard"])
    for name, component in said["components"].items():
        rows[f"{name} fingerprint"] = component["fingerprint"][:SHORT]
        for lora in component["lora"]:
            rows[f"{name} LoRA {lora['file']}"] = f"strength {lora['strength']}, sha256 {lora['sha256'][:SHORT]}"
    rows["scheme"] = settings["scheme"]
    rows["smoother"] = _smoother(settings)
    rows["rounder"] = _rounder(settings["quantize"])
    rows |= {f"made from {kind}": digest[:SHORT] for kind, digest in said["parents"].items()}
    if not any(kind.startswith("activation-stats") for kind in said["parents"]):
        rows["made from activation-stats"] = "none"
    rows |= {f"written by, {kind}": tool for kind, tool in settings["tools"].items()}
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    for name, linears in said["linears"].items():
        if kept := [linear for linear, how in linears.items() if how.get("kept")]:
            rows[f"{name} in full precision"] = ", ".join(kept)
        for key, title in (("weight_snr_db", "weights"), ("output_snr_db", "outputs")):
            snrs = {linear: how[key] for linear, how in linears.items() if key in how and linear not in kept}
            rows |= {f"{name} {title} {place}": text for place, text in by_place(snrs).items()}
    return rows


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    return {
        "artifact": manifest.kind,
        "tool": manifest.tool,
        "model": manifest.model,
        "family": manifest.family,
        "components": {
            name: {"fingerprint": component.fingerprint, "lora": component.merged}
            for name, component in manifest.components.items()
        },
        "settings": manifest.settings,
        "parents": manifest.parents,
        "linears": manifest.measured,
    }


def _smoother(settings: Mapping[str, Any]) -> str:
    if "smooth" in settings and settings["smooth"]["method"] not in IMPORTED.values():
        return _settings(settings["smooth"])
    if not settings["gains"]:
        return "none: converted as it is"
    return "LLMC's, folded before it was converted: its gains are kept, and its files do not say which method"


def _rounder(quantize: Mapping[str, Any]) -> str:
    if quantize["method"] in IMPORTED.values():
        return f"{quantize['method']}: the codes were there before it was converted, and are kept"
    said = _settings({key: value for key, value in quantize.items() if key != "scheme"})
    return f"{said} ({ROUNDING_NOTE})" if quantize.get("rounding") == Rounding.QTORCH else said


def _settings(settings: Mapping[str, Any]) -> str:
    """`smoothquant, alpha 0.75, groups all`: the method first, then the other settings that are not None."""
    others = {key: value for key, value in settings.items() if key != "method" and value is not None}
    return ", ".join([str(settings["method"]), *(f"{key.replace('_', ' ')} {value}" for key, value in others.items())])
