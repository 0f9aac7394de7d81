"""A quantized model is the same to a target whether it comes from artifacts or straight from a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.numerics.scheme import FP8, INT8, Rounding
from vq_export.model.quantized_model import from_artifacts, from_source

Paths = dict[str, Path]

QUERY, VALUE = "blocks.0.attn1.to_q", "blocks.1.attn1.to_v"


def test_conversion_equals_artifacts_that_were_not_smoothed(models: Paths, make_artifacts: Callable[..., Any]) -> None:
    made = make_artifacts(models["t2v"], "fp8", octaves=0).opened()
    source = open_source(str(models["t2v"]))
    converted = from_source(source, FP8, Rounding.NEAREST_EVEN)
    assert not made.has_gains
    assert not converted.has_gains
    ours, theirs = made.components["transformer"], converted.components["transformer"]
    assert (ours.fingerprint, ours.config) == (theirs.fingerprint, theirs.config)
    for linear in source.components["transformer"].topology.linears:
        a, b = ours.linear(linear.name), theirs.linear(linear.name)
        assert torch.equal(a.codes.view(torch.uint8), b.codes.view(torch.uint8))
        assert torch.equal(a.scale, b.scale)
    ones = ours.gain("blocks.0.norm1.gain")
    assert ones is not None
    assert bool((ones == 1).all())
    assert theirs.gain("blocks.0.norm1.gain") is None
    names = [f"{VALUE}.bias", "scale_shift_table"]
    assert all(torch.equal(ours.plain(names)[name], theirs.plain(names)[name]) for name in names)


def test_provenance_of_artifacts(smoothed_i2v: dict[str, Any]) -> None:
    made = smoothed_i2v["int8"]
    weights, qparams = open_weights(made.weights).artifact, open_qparams(made.qparams).artifact
    model = made.opened()
    assert model.scheme == "int8"
    assert model.has_gains
    assert model.parents == {"smoothed-weights": weights.digest, "quant-params": qparams.digest}
    assert model.settings == {"smooth": {"method": "random"}, "quantize": {"scheme": "int8", "method": "rtn"}}


def test_one_expert_with_gains_is_enough(smoothed_i2v: dict[str, Any], models: Paths) -> None:
    with_gains = smoothed_i2v["int8"].opened()
    without = from_source(open_source(str(models["i2v"])), INT8, Rounding.NEAREST_EVEN)
    both = {"transformer": without.components["transformer"], "transformer_2": with_gains.components["transformer"]}
    assert replace(with_gains, components=both).has_gains


def test_a_corrected_bias_replaces_the_folded_one(models: Paths, make_artifacts: Callable[..., Any]) -> None:
    made = make_artifacts(models["t2v"], corrected=VALUE)
    folded = open_weights(made.weights).components["transformer"].plain([f"{VALUE}.bias", f"{QUERY}.bias"])
    plain = made.opened().components["transformer"].plain([f"{QUERY}.bias", f"{VALUE}.bias"])
    assert torch.equal(plain[f"{VALUE}.bias"], folded[f"{VALUE}.bias"] + 1)
    assert torch.equal(plain[f"{QUERY}.bias"], folded[f"{QUERY}.bias"])


def test_rounding_is_that_which_was_asked_for(make_model: Callable[..., Path]) -> None:
    def tie(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{QUERY}.weight"][0, :2] = torch.tensor([448.0, 17.0])  # scale 1; 17 lies between 16 and 18

    source = open_source(str(make_model("t2v", edit=tie)))
    for rounding, code in ((Rounding.NEAREST_EVEN, 16), (Rounding.QTORCH, 18)):
        assert from_source(source, FP8, rounding).components["transformer"].linear(QUERY).codes[0, 1] == code


def test_quant_params_of_other_weights_are_refused(
    models: Paths, make_artifacts: Callable[..., Any], smoothed_i2v: dict[str, Any]
) -> None:
    other = make_artifacts(models["t2v"])
    with pytest.raises(VqError, match="was not made from .*: give the smoothed-weights it was made from"):
        from_artifacts(open_weights(other.weights), open_qparams(smoothed_i2v["int8"].qparams))


@pytest.mark.parametrize("name", [f"{QUERY}.weight", f"{QUERY}.bias", "patch_embedding.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_source_that_is_not_finite_is_refused_by_tensor(
    make_model: Callable[..., Path], name: str, value: float
) -> None:
    damaged = make_model("t2v", edit=lambda tensors: tensors[name].view(-1)[3].fill_(value))
    component = from_source(open_source(str(damaged)), INT8, Rounding.NEAREST_EVEN).components["transformer"]
    with pytest.raises(VqError, match=f"`{name}` in .*transformer has 1 values of .* that are NaN or infinite"):
        component.linear(QUERY) if name == f"{QUERY}.weight" else component.plain([name])
