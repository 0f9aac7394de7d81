"""Every tensor of a checkpoint is held against the folded original, whose gains are recovered."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.model.source import open_source
from vq_core.testing.artifacts import write_qparams
from vq_export.targets.lightx2v import export
from vq_export.verify.checks.fidelity import Fidelity, compare, corrected_biases
from vq_export.verify.reference import model_reference, unrounded_reference

Paths = dict[str, Path]


def against_model(path: Path, model: Path) -> Fidelity:
    checkpoint = open_checkpoint(path)
    return compare(checkpoint, model_reference(open_source(str(model)), checkpoint))["transformer"]


def test_snr_is_that_of_the_literal_formula(checkpoints: Paths, models: Paths) -> None:
    checkpoint, source = open_checkpoint(checkpoints["int8-t2v"]), open_source(str(models["t2v"]))
    errors = against_model(checkpoints["int8-t2v"], models["t2v"]).linears
    for name in ("blocks.0.attn1.to_q", "blocks.1.ffn.net.2"):
        weight = source.components["transformer"].plain([f"{name}.weight"])[f"{name}.weight"].double()
        codes, scale, *_ = checkpoint.components["transformer"].linear(name)
        noise = weight - codes.double() * scale.double()
        ratio = float(weight.square().sum() / noise.square().sum())
        assert errors[name].snr_db == pytest.approx(10 * math.log10(ratio), abs=1e-3)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_nothing_differs_from_the_model_or_from_the_smoothed_weights(
    checkpoints: Paths, models: Paths, smoothed_i2v: dict[str, Any], scheme: str
) -> None:
    path = checkpoints[f"{scheme}-smoothed"]
    against_weights = compare(open_checkpoint(path), unrounded_reference(smoothed_i2v[scheme].opened()))
    for found in (against_model(path, models["i2v"]), against_weights["transformer"]):
        assert found.other == []
        assert len(found.linears) == 24
        assert max(error.excess_db for error in found.linears.values()) < 6


@pytest.mark.parametrize(
    ("native", "name"),
    [
        ("head.head.weight", "proj_out.weight"),
        ("blocks.1.modulation", "blocks.1.scale_shift_table"),
        ("blocks.0.norm3.bias", "blocks.0.norm2.bias"),
        ("blocks.0.self_attn.v.bias", "blocks.0.attn1.to_v.bias"),
    ],
)
def test_one_element_of_any_other_tensor_is_found(
    checkpoints: Paths, models: Paths, rewrite: Callable[..., Path], native: str, name: str
) -> None:
    path = rewrite(checkpoints["int8-i2v"], lambda content: content.change(native, wrong_element))
    assert against_model(path, models["i2v"]).other == [name]


def wrong_element(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[5] *= 1.02
    return changed


def test_a_corrected_bias_is_none_of_the_model_and_is_that_of_the_quant_params(
    make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path
) -> None:
    linear = "blocks.1.attn2.to_q"
    quantized = make_artifacts(models["i2v"], corrected=linear).opened()
    export(quantized, tmp_path / "ckpt")
    checkpoint = open_checkpoint(tmp_path / "ckpt")
    assert corrected_biases(checkpoint, "transformer") == {f"{linear}.bias"}
    assert against_model(tmp_path / "ckpt", models["i2v"]).other == []
    assert compare(checkpoint, unrounded_reference(quantized))["transformer"].other == []

    uncorrected = make_artifacts(models["i2v"]).opened()
    assert compare(checkpoint, unrounded_reference(uncorrected))["transformer"].other == [f"{linear}.bias"]


def test_a_corrected_bias_says_nothing_of_the_gain(
    make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path
) -> None:
    """The image's value projection takes the same gain, and its own bias tells it."""
    artifacts = make_artifacts(models["i2v"], "fp8", octaves=0.01)
    linear = "blocks.1.attn2.to_v"
    write_qparams(artifacts.weights, tmp_path / "qparams", "fp8", bias_shift=0.001, corrected=linear)
    export(replace(artifacts, qparams=tmp_path / "qparams").opened(), tmp_path / "ckpt")
    assert against_model(tmp_path / "ckpt", models["i2v"]).other == []
