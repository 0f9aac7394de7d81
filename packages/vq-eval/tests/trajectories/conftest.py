"""Trajectories of a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.remote.location import NamedPath
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_eval.trajectories.measure import measure_trajectories
from vq_eval.trajectories.schema import JSON_NAME, TrajectoryReport
from vq_eval.videos.candidates import NamedCandidate, open_named

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]

SMALL = Sampling(steps=2, height=32, width=32, num_frames=5)


@pytest.fixture(scope="session")
def candidates(artifacts: Artifacts, other_artifacts: tuple[Path, Path]) -> list[NamedCandidate]:
    """INT8 and FP8 of `t2v`."""
    (weights, qparams), (other_weights, other_qparams) = artifacts("t2v"), other_artifacts
    return open_named([weights, other_weights], [NamedPath("int8", qparams), NamedPath("fp8", other_qparams)])


@pytest.fixture(scope="session")
def drifted(
    tiny_model: TinyModel,
    candidates: list[NamedCandidate],
    prompts: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Trajectories of `candidates`, two prompts; not to be changed."""
    output = tmp_path_factory.mktemp("drift") / "drift"
    measure_trajectories(str(tiny_model("t2v")), candidates, prompts, SMALL, output, device="cpu")
    return output


@pytest.fixture
def report(drifted: Path) -> TrajectoryReport:
    """The report of `drifted`."""
    return TrajectoryReport.model_validate_json((drifted / JSON_NAME).read_bytes())
