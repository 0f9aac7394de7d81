"""What a checkpoint may be held against."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_export.verify.reference import model_reference, unrounded_reference

Paths = dict[str, Path]


@pytest.mark.parametrize(
    ("made", "model", "sentence"),
    [
        ("int8-i2v-2.2", "i2v-2.2/transformer", "has no transformer_2, which .* has: give the whole model"),
        ("int8-i2v", "t2v", "was made from another model"),
    ],
)
def test_another_model_or_half_of_it_is_refused(
    checkpoints: Paths, models: Paths, made: str, model: str, sentence: str
) -> None:
    kind, _, folder = model.partition("/")
    with pytest.raises(VqError, match=sentence):
        model_reference(open_source(str(models[kind] / folder)), open_checkpoint(checkpoints[made]))


def test_a_model_has_no_gains_and_smoothed_weights_have_theirs(
    models: Paths, checkpoints: Paths, smoothed_i2v: dict[str, Any]
) -> None:
    reference = model_reference(open_source(str(models["i2v"])), open_checkpoint(checkpoints["int8-smoothed"]))
    assert reference.name == str(models["i2v"])
    assert not reference.smoothed
    assert reference.components["transformer"].gain("blocks.0.norm1.gain") is None

    made = smoothed_i2v["int8"]
    unrounded = unrounded_reference(made.opened())
    assert unrounded.smoothed
    gain = unrounded.components["transformer"].gain("blocks.0.norm1.gain")
    assert gain is not None
    assert torch.equal(gain, made.gains["transformer"]["blocks.0.attn1.qkv"])
    smoothed, plain = (it.components["transformer"].linear("blocks.0.attn1.to_q") for it in (unrounded, reference))
    torch.testing.assert_close(smoothed, plain.float() / gain, rtol=0, atol=0)


def test_a_conversion_is_held_against_the_model_itself(models: Paths, convert: Any) -> None:
    converted = unrounded_reference(convert(models["t2v"], "fp8"))
    assert converted.smoothed  # nothing is left to find
    component = converted.components["transformer"]
    assert component.gain("blocks.0.norm1.gain") is None
    original = open_source(str(models["t2v"])).components["transformer"].plain(["proj_out.bias"])
    assert torch.equal(component.plain(["proj_out.bias"])["proj_out.bias"], original["proj_out.bias"])
