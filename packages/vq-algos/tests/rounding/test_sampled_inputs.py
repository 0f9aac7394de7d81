"""The inputs that a group is solved on: the artifact's tokens, smoothed and quantized as the runtime does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_core.artifacts.stats import ActivationStats, Split, Tokens
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.errors import VqError
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import NumberFormat
from vq_core.topology import Group


@pytest.fixture
def component(smoothed: Path) -> SmoothedTransformer:
    return open_weights(smoothed).components["transformer"]


def _source(component: SmoothedTransformer, stats: ActivationStats) -> SampledInputs:
    return SampledInputs("transformer", component, stats, "cpu")


def _group(component: SmoothedTransformer, name: str) -> Group:
    return next(group for group in component.topology.groups if group.name == name)


@pytest.mark.parametrize("fmt", NumberFormat)
@pytest.mark.parametrize("name", ["blocks.0.attn1.qkv", "blocks.1.attn2.out", "blocks.1.ffn.down", "text"])
def test_inputs_are_the_tokens_times_the_gain(
    name: str, fmt: NumberFormat, component: SmoothedTransformer, stats: Any
) -> None:
    group = _group(component, name)
    inputs = _source(component, stats).inputs_of(group, fmt)
    gain = component.gain(group.gain)
    splits: tuple[Split, ...] = ("fit", "held-out")
    for split, part in zip(splits, (inputs.fit, inputs.held_out), strict=True):
        tokens = stats.tokens("transformer", name, split)
        assert torch.equal(part.x, tokens.rows.float() * gain)
        assert torch.equal(part.x_hat, dequantize(quantize_tokens(tokens.rows, fmt, gain)))
        assert torch.equal(part.weight, tokens.weight)
        assert torch.equal(part.bucket, tokens.bucket)
    assert (gain != 1).any() == (name != "blocks.1.ffn.down")


@pytest.mark.parametrize("name", ["blocks.0.attn1.qkv", "blocks.1.ffn.down"])
def test_rotated_inputs_are_quantized_after_the_rotation(name: str, component: SmoothedTransformer, stats: Any) -> None:
    group, gain = _group(component, name), component.gain(_group(component, name).gain)
    inputs = _source(component, stats).inputs_of(group, NumberFormat.INT8, rotation=16)
    tokens = stats.tokens("transformer", name, "fit")
    assert torch.equal(inputs.fit.x, rotate(tokens.rows.float() * gain, 16))
    quantized = quantize_tokens(tokens.rows, NumberFormat.INT8, gain, group=16)
    assert torch.equal(inputs.fit.x_hat, dequantize(quantized._replace(rotation=1)))


def test_only_what_all_blocks_read_is_kept(component: SmoothedTransformer, stats: ActivationStats) -> None:
    source = _source(component, stats)
    for name, shared in (("text", True), ("image", True), ("blocks.0.attn1.qkv", False)):
        first, second = (source.inputs_of(_group(component, name), NumberFormat.INT8) for _ in range(2))
        assert (first is second) is shared
        assert source.inputs_of(_group(component, name), NumberFormat.INT8, rotation=4) is not first


@pytest.mark.parametrize("centered", [(), ("text",)])
def test_it_is_kept_as_linears_are_solved_on_it(
    component: SmoothedTransformer, stats: ActivationStats, centered: tuple[str, ...]
) -> None:
    source = SampledInputs("transformer", component, stats, "cpu", centered)
    group = _group(component, "text")
    mean = source.mean_of(group)
    plain, less = ([source.inputs_of(group, NumberFormat.INT8, mean=it) for _ in range(2)] for it in (None, mean))
    assert (plain[0] is plain[1], less[0] is less[1]) == (not centered, bool(centered))
    for one, other in zip(plain, less, strict=True):
        assert torch.equal(one.held_out.x - mean, other.held_out.x)


def test_a_token_that_is_not_finite_is_refused_by_name(
    component: SmoothedTransformer, stats: ActivationStats, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(stats).tokens  # type: ignore[attr-defined]

    def damaged(self: ActivationStats, *arguments: Any) -> Tokens:
        tokens: Tokens = whole(self, *arguments)
        return replace(tokens, rows=tokens.rows.index_fill(0, torch.tensor([3]), torch.nan))

    monkeypatch.setattr(type(stats), "tokens", damaged)
    with pytest.raises(VqError, match="blocks.0.ffn.up, sampled tokens` in .*token-stats has 32 values"):
        _source(component, stats).inputs_of(_group(component, "blocks.0.ffn.up"), NumberFormat.INT8)
