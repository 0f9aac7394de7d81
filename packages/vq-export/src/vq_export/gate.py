"""The gate behind every export: what was written is read back cold, and has its name only when it is sound."""

import os
import sys
from pathlib import Path

from vq_core.errors import GateFailed, VqError
from vq_core.tensor_file import publish
from vq_export.quantized_model import QuantizedModel
from vq_export.reference import unrounded_reference
from vq_export.targets import target_named
from vq_export.verification import Verification, enforce


def unverified_folder(output: Path) -> Path:
    """Where a checkpoint lies until it is verified, and where it stays if it fails."""
    return output.with_name(f"{output.name}.unverified")


def export(
    target: str,
    model: QuantizedModel,
    output: Path,
    *,
    resume: bool = False,
    verify: bool = True,
    strict: bool = False,
    device: str = "cpu",
) -> Verification | None:
    """Write `model` to the folder `output` as `target` does, and verify it against what it was rounded from.

    Returns:
        What was found; None where it was not looked, or where nothing can: not every target has a verifier.

    Raises:
        VqError: `output` exists, or an earlier one that was never verified; or the model cannot be exported.
        GateFailed: the checkpoint is not sound. It stays as `NAME.unverified`.
    """
    unverified = unverified_folder(output)
    if output.exists():
        raise VqError(f"{output} exists already: choose another --output or remove it.")
    if unverified.exists():
        raise VqError(
            f"{unverified} is in the way, a checkpoint that failed or never finished its verification: "
            "see with `vq-export verify` what is wrong with it and remove it, or rename it if nothing is."
        )
    writer = target_named(target)
    writer.export(model, unverified, resume=resume)
    found = None
    if verify and writer.VERIFIER is not None:
        _forget(unverified)
        try:
            found = writer.VERIFIER(unverified, unrounded_reference(model), device)
            enforce(found, unverified, strict=strict)
        except GateFailed:
            raise
        except VqError as error:  # damage elsewhere, but here it is the disk that failed the gate
            raise GateFailed(f"{unverified} was written and cannot be read back: {error}") from error
    publish(unverified, output)
    return found


def _forget(folder: Path) -> None:
    """Let the system drop the folder's files from its cache, so that reading them reads the disk."""
    if sys.platform == "linux":
        for path in folder.rglob("*.safetensors"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
