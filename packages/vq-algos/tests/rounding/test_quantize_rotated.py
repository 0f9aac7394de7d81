"""Quantization of whole models for a target that rotates what linears read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import scheme_named

MakeSmoothed = Callable[..., Path]

GROUP = 16
"""The largest that divides the widths of the model, 32 and 80."""
RECORDED_DB = 2e-3


def _quantize(
    weights: Path, output: Path, stats: ActivationStats | None, scheme: str = "int8", **settings: Any
) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings(scheme, **settings), output, stats=stats)
    return open_qparams(output)


@pytest.fixture
def smoothed(make_smoothed: MakeSmoothed, i2v_model: Path) -> Path:
    """The model, smoothed for a target that rotates."""
    return make_smoothed(i2v_model, SmoothSettings(target="comfyui"))


def test_auto_rotates_what_has_less_error_then_and_records_what_the_runtime_computes(
    smoothed: Path, stats: Any, tmp_path: Path, output_snr: Callable[..., float]
) -> None:
    plain, rotated, best = (
        _quantize(smoothed, tmp_path / how, stats, method="auto", rotate=how) for how in ("none", "all", "auto")
    )
    component = open_weights(smoothed).components["transformer"]
    for linear, decision in best.decisions("transformer").items():
        quantized = best.linear("transformer", linear)
        assert quantized.rotation == decision.get("rotation", 1)
        same = rotated if quantized.rotation == GROUP else plain
        assert torch.equal(quantized.codes, same.linear("transformer", linear).codes)
        weight, bias = component.plain([f"{linear}.weight", f"{linear}.bias"]).values()
        tokens = stats.tokens("transformer", component.topology.group_of(linear).name, "held-out")
        (ours,) = best.replacements("transformer", [f"{linear}.bias"]).values() or (bias,)
        expected = output_snr(component, linear, tokens, quantized, ours, "int8")
        assert decision["output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        expected = output_snr(
            component, linear, tokens, quantize_weight(weight.float(), scheme_named("int8").weight), bias, "int8"
        )
        assert decision["rtn_output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        assert decision["output_snr_db"] >= decision["rtn_output_snr_db"]
    decisions = [one.decisions("transformer") for one in (plain, best)]
    turned = [linear for linear in decisions[1] if "rotation" in decisions[1][linear]]
    assert 0 < len(turned) < len(decisions[1])
    gains = [decisions[1][linear]["output_snr_db"] - decisions[0][linear]["output_snr_db"] for linear in turned]
    assert min(gains) > 0


def test_fp8_keeps_its_basis(
    smoothed: Path, stats: ActivationStats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vq_algos.rounding.quantize.require_scheme", lambda *_: None)
    decisions = _quantize(smoothed, tmp_path / "qparams", stats, "fp8", rotate="auto").decisions("transformer")
    assert not any("rotation" in one for one in decisions.values())


def test_a_rotation_of_all_needs_no_tokens(smoothed: Path, tmp_path: Path) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams", None, rotate="all")
    component = open_weights(smoothed).components["transformer"]
    for linear in component.topology.linears:
        weight = rotate(component.linear(linear.name), GROUP)
        expected = quantize_weight(weight, scheme_named("int8").weight)
        found = qparams.linear("transformer", linear.name)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.scale, expected.scale)
        assert found.rotation == GROUP


@pytest.mark.parametrize(
    ("target", "how", "sentence"),
    [
        ("comfyui", "auto", "^`--rotate auto` needs sampled tokens"),
        ("lightx2v", "all", "^LightX2V does not rotate what a linear reads"),
        ("comfyui", "some", "^`some` is not known to --rotate: choose one of none, auto, all"),
    ],
)
def test_rotations_that_cannot_be_are_refused(
    make_smoothed: MakeSmoothed, i2v_model: Path, tmp_path: Path, target: str, how: str, sentence: str
) -> None:
    weights = make_smoothed(i2v_model, SmoothSettings(target=target))
    with pytest.raises(VqError, match=sentence):
        _quantize(weights, tmp_path / "qparams", None, rotate=how)
    assert not (tmp_path / "qparams").exists()
