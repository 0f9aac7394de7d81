"""Checkpoints of artifacts, and what verifies them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.converted import open_converted
from vq_core.model.source import open_source
from vq_core.targets import target_named
from vq_export.gate import export
from vq_export.verify.reference import Reference, model_reference, unrounded_reference
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify


@pytest.fixture(scope="session")
def make_checkpoint(
    make_artifacts: Callable[..., Any], models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Any, Path]]:
    """`make_checkpoint(target, scheme, **rounding)`: artifacts with all gains that the target has, and their export."""

    def make(target: str, scheme: str, **rounding: Any) -> tuple[Any, Path]:
        smoothed: dict[str, Any] = {"across": True} if target_named(target).gains else {"octaves": 0.0}
        artifacts = make_artifacts(models["i2v"], scheme, **smoothed, **rounding)
        path = tmp_path_factory.mktemp(target) / "checkpoint"
        export(target, artifacts.opened(), path)
        return artifacts, path

    return make


@pytest.fixture(scope="session")
def verified(models: dict[str, Path]) -> Callable[..., Verification]:
    """`verified(path, artifacts=None)`: what is found in a checkpoint beside its artifacts, or without, the model."""

    def found(path: Path, artifacts: Any = None) -> Verification:
        checkpoint = open_converted(path)
        reference: Reference
        if artifacts is None:
            reference = model_reference(open_source(str(models["i2v"])), checkpoint)
        else:
            reference = unrounded_reference(artifacts.opened())
        return verify(checkpoint, reference)

    return found
