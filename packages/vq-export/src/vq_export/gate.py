"""The gate behind every export: a checkpoint is read back cold, and gets its name only if it is sound."""

import os
import sys
from pathlib import Path

from vq_core.errors import GateFailed, VqError
from vq_core.remote.location import Location
from vq_core.store.resumable_folder import unverified_folder
from vq_export.model.quantized_model import QuantizedModel
from vq_export.targets import target_named
from vq_export.verify.reference import unrounded_reference
from vq_export.verify.verification import Verification, enforce


def export(
    target: str,
    model: QuantizedModel,
    output: Location,
    *,
    resume: bool = False,
    verify: bool = True,
    strict: bool = False,
    device: str = "cpu",
) -> Verification | None:
    """Write `model` to the folder `output` as `target` does, and verify it against the weights before rounding.

    Returns:
        What was found; None without `verify`.

    Raises:
        VqError: `output` exists, or its unverified folder of an earlier run; or the model cannot be exported.
        GateFailed: the checkpoint is not sound. It stays as `NAME.unverified`.
    """
    writer = target_named(target)
    found: list[Verification] = []

    def check(folder: Path) -> None:
        _forget(folder)
        try:
            found.append(writer.VERIFIER(folder, unrounded_reference(model), device))
        except GateFailed:
            raise
        except VqError as error:  # usually a damaged input; here the disk has damaged what was written
            raise GateFailed(f"{unverified_folder(output)} was written and cannot be read back: {error}") from error
        enforce(found[0], unverified_folder(output), strict=strict)

    writer.export(model, output, resume=resume, check=check if verify else None)
    return found[0] if found else None


def _forget(folder: Path) -> None:
    """Drop the folder's files from the system's cache, so that they are read from the disk."""
    if sys.platform == "linux":
        for path in folder.rglob("*.safetensors"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
