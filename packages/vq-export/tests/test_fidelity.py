"""The weight error of a checkpoint is measured against the folded original, whose gains are recovered."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.numerics.quantize import Quantized, quantize_weight, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.recipe import Recipe
from vq_core.scheme import NumberFormat
from vq_core.source import Source, open_source
from vq_export.export import Inputs, open_model
from vq_export.fidelity import linear_error, linear_errors, linear_snr_db, require_made_from
from vq_export.targets.lightx2v import export


def zero_biases(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor.zero_()


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_gains_are_recovered_from_weights_where_biases_are_zero(
    make_model: Callable[..., Path], make_artifacts: Callable[..., Any], tmp_path: Path, scheme: str
) -> None:
    model = make_model("i2v", edit=zero_biases)
    made = make_artifacts(model, scheme)
    export(open_model(Inputs(weights=made.weights, qparams=made.qparams), Recipe()), tmp_path / "ckpt")
    errors = linear_errors(open_checkpoint(tmp_path / "ckpt"), open_source(str(model)))["transformer"]
    assert len(errors) == 24
    assert max(error.excess_db for error in errors.values()) < 6
    assert min(error.snr_db for error in errors.values()) > 28


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("clip", [1.0, 0.7])
@pytest.mark.parametrize("value", ["blocks.0.attn1.to_v", "blocks.1.attn2.to_v", "blocks.1.attn2.add_v_proj"])
def test_gains_are_recovered_from_weights_where_a_bias_was_corrected(
    make_model: Callable[..., Path],
    make_artifacts: Callable[..., Any],
    tmp_path: Path,
    scheme: str,
    value: str,
    clip: float,
) -> None:
    model = make_model("i2v")
    made = make_artifacts(model, scheme, corrected=value, clip=clip)
    export(open_model(Inputs(weights=made.weights, qparams=made.qparams), Recipe()), tmp_path / "ckpt")
    errors = linear_errors(open_checkpoint(tmp_path / "ckpt"), open_source(str(model)))["transformer"]
    assert max(error.excess_db for error in errors.values()) < 6


def test_snr_is_that_of_the_literal_formula(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    checkpoint, source = open_checkpoint(checkpoints["int8-t2v"]), open_source(str(models["t2v"]))
    snrs = linear_snr_db(checkpoint, source)["transformer"]
    for name in ("blocks.0.attn1.to_q", "blocks.1.ffn.net.2"):
        weight = source.components["transformer"].load([f"{name}.weight"])[f"{name}.weight"].double()
        codes, scale = checkpoint.components["transformer"].linear(name)
        noise = weight - codes.double() * scale.double()
        assert snrs[name] == pytest.approx(
            10 * math.log10(float(weight.square().sum() / noise.square().sum())), abs=1e-3
        )


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_excess_is_zero_for_rounding_and_large_for_one_wrong_row_or_column(fmt: NumberFormat) -> None:
    weight = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    codes, scale = quantize_weight(weight, fmt)
    assert linear_error(weight, Quantized(codes, scale), fmt).excess_db < 0.01

    wrong_scale = scale.clone()
    wrong_scale[9] *= 2
    wrong_column = weight.clone()
    wrong_column[:, 9] *= 2
    for wrong in (Quantized(codes, wrong_scale), quantize_weight(wrong_column, fmt)):
        error = linear_error(weight, wrong, fmt)
        assert error.snr_db > 20
        assert error.excess_db > 25


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_clipped_row_is_compared_with_rounding_at_its_own_scale(fmt: NumberFormat) -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    weight[:, 3] = 20
    scale = weight_scale(weight, fmt)
    for factor, limits in ((0.6, (-1, 0.1)), (0.3, (15, 100)), (2, (15, 100))):
        codes = round_to_codes(weight / (scale * min(factor, 1)), fmt)
        assert limits[0] < linear_error(weight, Quantized(codes, scale * factor), fmt).excess_db < limits[1]


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_column_that_took_over_the_error_of_others_is_no_wrong_gain(fmt: NumberFormat) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 1024, generator=generator)
    moved, doubled = weight.clone(), weight.clone()
    moved[:, 9] += 0.3 * torch.randn(256, generator=generator)
    doubled[:, 9] *= 1.9
    for changed, nearest, sound in ((moved, False, True), (moved, True, False), (doubled, False, False)):
        quantized = quantize_weight(changed, fmt)
        assert (linear_error(weight, quantized, fmt, nearest=nearest).excess_db < 15) is sound


def test_excess_allows_for_weights_that_were_stored_in_bfloat16() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    weight[:, 3] *= 100  # far above one step of the others, so that rounding to codes leaves it nearly exact
    quantized = quantize_weight(weight.bfloat16(), NumberFormat.INT8)
    assert linear_error(weight, quantized, NumberFormat.INT8).excess_db < 6


def test_zeros_have_no_error() -> None:
    zeros = torch.zeros(4, 8)
    error = linear_error(zeros, quantize_weight(zeros, NumberFormat.INT8), NumberFormat.INT8)
    assert error.snr_db == math.inf
    assert error.excess_db < 0
    nonzero = Quantized(torch.ones(4, 8, dtype=torch.int8), torch.ones(4, 1))
    assert linear_error(zeros, nonzero, NumberFormat.INT8).excess_db > 100


def test_a_source_without_one_of_the_experts_is_refused(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    high_noise = open_source(str(models["i2v-2.2"] / "transformer"))
    with pytest.raises(VqError, match="has no transformer_2, which .* has: give the whole model"):
        require_made_from(open_checkpoint(checkpoints["int8-i2v-2.2"]), high_noise)


def test_another_model_is_refused(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    source: Source = open_source(str(models["t2v"]))
    with pytest.raises(VqError, match="was made from another model"):
        linear_errors(open_checkpoint(checkpoints["int8-i2v"]), source)
