"""Weights that were smoothed for one scheme and quantized to another are told of."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_algos.smoothed_for import other_scheme, warning_of
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import FORMAT, KIND, SmoothedWeights, open_weights
from vq_core.model.source import open_source
from vq_core.store.writer import Header, create_artifact


@pytest.fixture
def smoothed_with(tmp_path: Path) -> Callable[..., SmoothedWeights]:
    """What is read of weights that were smoothed with these settings."""

    def smoothed(**settings: str | None) -> SmoothedWeights:
        with create_artifact(tmp_path / "weights", Header(KIND, FORMAT, "test", "wan", "m", {}, {**settings})):
            pass
        return open_weights(tmp_path / "weights")

    return smoothed


@pytest.mark.parametrize("method", ["auto", "awq"])
def test_a_smoother_that_tried_another_scheme(smoothed_with: Callable[..., SmoothedWeights], method: str) -> None:
    weights = smoothed_with(method=method, scheme="fp8")
    assert other_scheme(weights, "int8") == "fp8"
    warning = f"smoothed for fp8 by {method}, quantized to int8: smooth with --scheme int8 for less error"
    assert warning_of(weights, "int8") == warning
    assert warning_of(weights, "fp8") is None


@pytest.mark.parametrize(("method", "scheme"), [("smoothquant", "fp8"), ("noise", None), ("random", "fp8")])
def test_one_that_tried_none_fits_every_scheme(
    smoothed_with: Callable[..., SmoothedWeights], method: str, scheme: str | None
) -> None:
    assert other_scheme(smoothed_with(method=method, scheme=scheme), "int8") is None


def test_summary_and_manifest_say_it(
    run_command: Callable[..., int],
    i2v_model: Path,
    stats: ActivationStats,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    smoothed, qparams = tmp_path / "smoothed", tmp_path / "qparams"
    smooth(open_source(str(i2v_model)), stats, SmoothSettings("awq", "fp8"), smoothed)
    quantize = ("vq-algos", "quantize", "--weights", smoothed, "--scheme")
    assert run_command(*quantize, "int8", "-o", qparams) == 0
    assert "smoothed for fp8 by awq, quantized to int8" in capsys.readouterr().out
    assert open_qparams(qparams).artifact.manifest.settings["smoothed_for"] == "fp8"
    assert run_command(*quantize, "fp8", "-o", tmp_path / "right", "--json") == 0
    assert "warning" not in json.loads(capsys.readouterr().out)
    assert "smoothed_for" not in open_qparams(tmp_path / "right").artifact.manifest.settings
