"""Quantization of whole models to 4 and 6 bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothed_for import other_scheme
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import scheme_named

MakeSmoothed = Callable[..., Path]

SCHEMES = ("w6a8", "w4a8")
GROUP = 16
"""The largest that divides the widths of the model, 32 and 96."""
RECORDED_DB = 2e-3


def _quantize(weights: Path, output: Path, stats: ActivationStats | None, scheme: str, **settings: Any) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings(scheme, **{"rotate": "all", **settings}), output, stats=stats)
    return open_qparams(output)


@pytest.fixture
def smoothed(make_smoothed: MakeSmoothed, filled_model: Path) -> Path:
    return make_smoothed(filled_model, SmoothSettings(target="comfyui"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_tokens_every_rotated_weight_is_rounded_to_nearest(smoothed: Path, tmp_path: Path, scheme: str) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams", None, scheme)
    component, chosen = open_weights(smoothed).components["transformer"], scheme_named(scheme)
    for linear in component.topology.linears:
        expected = quantize_to(chosen, rotate(component.linear(linear.name), GROUP))
        found = qparams.linear("transformer", linear.name)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.scale, expected.scale)
        assert found.rotation == GROUP
        name = f"{linear.name}.codes"
        stored = qparams.artifact.tensors("transformer", [name])[name]
        assert stored.nbytes == linear.out_features * linear.in_features * chosen.bits // 8


@pytest.mark.parametrize("scheme", SCHEMES)
def test_auto_records_what_the_runtime_computes_and_beats_rounding_to_nearest(
    smoothed: Path, filled_stats: Any, tmp_path: Path, output_snr: Callable[..., float], scheme: str
) -> None:
    nearest = _quantize(smoothed, tmp_path / "rtn", None, scheme)
    qparams = _quantize(smoothed, tmp_path / "qparams", filled_stats, scheme, method="auto", center=True)
    component = open_weights(smoothed).components["transformer"]
    decisions = qparams.decisions("transformer")
    for linear, decision in decisions.items():
        quantized = qparams.linear("transformer", linear)
        assert quantized.rotation == decision["rotation"] == GROUP
        assert decision["output_snr_db"] >= decision["rtn_output_snr_db"]
        bias = component.plain([f"{linear}.bias"])[f"{linear}.bias"]
        tokens = filled_stats.tokens("transformer", component.topology.group_of(linear).name, "held-out")
        expected = output_snr(component, linear, tokens, nearest.linear("transformer", linear), bias, scheme)
        assert decision["rtn_output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        if not decision.get("centered"):
            (ours,) = qparams.replacements("transformer", [f"{linear}.bias"]).values() or (bias,)
            expected = output_snr(component, linear, tokens, quantized, ours, scheme)
            assert decision["output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
    gains = [one["output_snr_db"] - one["rtn_output_snr_db"] for one in decisions.values()]
    assert sum(gains) / len(gains) > 1


def test_weights_smoothed_for_int8_serve_all_of_its_products(make_smoothed: MakeSmoothed, filled_model: Path) -> None:
    weights = open_weights(make_smoothed(filled_model, SmoothSettings(target="comfyui", scheme="int8")))
    assert [other_scheme(weights, scheme) for scheme in ("int8", *SCHEMES)] == [None] * 3


def test_what_a_target_or_a_width_cannot_hold_is_refused(
    make_smoothed: MakeSmoothed, filled_model: Path, make_model: Callable[..., Path], i2v_config: Any, tmp_path: Path
) -> None:
    with pytest.raises(VqError, match=r"^LightX2V does not run w4a8: take int8, or .*--target native or comfyui"):
        _quantize(make_smoothed(filled_model, name="a"), tmp_path / "out", None, "w4a8")
    odd = make_smoothed(make_model(i2v_config, name="odd"), SmoothSettings(target="native"), name="b")
    with pytest.raises(VqError, match=r"^`blocks\.0\.ffn\.net\.2` reads 80 channels, and w6a8 needs a multiple of 32"):
        _quantize(odd, tmp_path / "out", None, "w6a8")
    assert not (tmp_path / "out").exists()
    _quantize(odd, tmp_path / "out", None, "w4a8")


def test_codes_that_do_not_fill_their_groups_are_named(
    smoothed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams", None, "w4a8")
    monkeypatch.setattr(type(qparams), "scheme", "w6a8")
    with pytest.raises(VqError, match=r"^The codes of `blocks\.0\.attn1\.to_q` in .* are not w6a8: quantize again"):
        qparams.linear("transformer", "blocks.0.attn1.to_q")
