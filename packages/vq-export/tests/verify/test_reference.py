"""What a checkpoint may be held against."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.recipes.recipe import Recipe
from vq_export.export import open_model
from vq_export.options import ExportOptions
from vq_export.verify.reference import model_reference, unrounded_reference


def test_a_source_without_one_of_the_experts_is_refused(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    high_noise = open_source(str(models["i2v-2.2"] / "transformer"))
    with pytest.raises(VqError, match="has no transformer_2, which .* has: give the whole model"):
        model_reference(high_noise, open_checkpoint(checkpoints["int8-i2v-2.2"]))


def test_another_model_is_refused(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    with pytest.raises(VqError, match="was made from another model"):
        model_reference(open_source(str(models["t2v"])), open_checkpoint(checkpoints["int8-i2v"]))


def test_a_model_has_no_gains_and_smoothed_weights_have_theirs(
    models: dict[str, Path], checkpoints: dict[str, Path], smoothed_i2v: dict[str, Any]
) -> None:
    reference = model_reference(open_source(str(models["i2v"])), open_checkpoint(checkpoints["int8-smoothed"]))
    assert reference.name == str(models["i2v"])
    assert not reference.smoothed
    assert reference.components["transformer"].gain("blocks.0.norm1.gain") is None

    made = smoothed_i2v["int8"]
    unrounded = unrounded_reference(open_model(ExportOptions(weights=made.weights, qparams=made.qparams), Recipe()))
    assert unrounded.smoothed
    gain = unrounded.components["transformer"].gain("blocks.0.norm1.gain")
    assert gain is not None
    assert torch.equal(gain, made.gains["transformer"]["blocks.0.attn1.qkv"])
    smoothed, plain = (it.components["transformer"].linear("blocks.0.attn1.to_q") for it in (unrounded, reference))
    torch.testing.assert_close(smoothed, plain.float() / gain, rtol=0, atol=0)


def test_a_conversion_is_held_against_the_model_itself(models: dict[str, Path]) -> None:
    converted = unrounded_reference(open_model(ExportOptions(model=str(models["t2v"]), scheme="fp8"), Recipe()))
    assert converted.smoothed  # nothing is left to find
    component = converted.components["transformer"]
    assert component.gain("blocks.0.norm1.gain") is None
    original = open_source(str(models["t2v"])).components["transformer"].plain(["proj_out.bias"])
    assert torch.equal(component.plain(["proj_out.bias"])["proj_out.bias"], original["proj_out.bias"])
