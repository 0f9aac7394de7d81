"""What centering can subtract from an input, and the tensors that change then, in fp64."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_algos.rounding.means import Means
from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.topology import Group, block_of

PRODUCERS = {
    "blocks.1.attn2.q": "blocks.1.norm2.bias",
    "blocks.0.attn1.out": "blocks.0.attn1.to_v.bias",
    "image": "condition_embedder.image_embedder.norm2.bias",
}


@pytest.fixture
def component(smoothed: Path) -> SmoothedTransformer:
    return open_weights(smoothed).components["transformer"]


@pytest.fixture
def means(component: SmoothedTransformer, stats: ActivationStats) -> Means:
    inputs = SampledInputs("transformer", component, stats, "cpu")
    return Means(component, inputs, "cpu", {"image": torch.arange(32.0)})


def _group(means: Means, name: str) -> Group:
    return next(group for group in means.weights.topology.groups if group.name == name)


def _read(means: Means, name: str) -> Tensor:
    return means.weights.plain([name])[name].float()


@pytest.mark.parametrize("name", [*PRODUCERS, "blocks.0.ffn.up", "text"])
def test_it_is_the_weighted_mean_of_the_smoothed_tokens_to_what_bfloat16_resolves(
    means: Means, stats: ActivationStats, name: str
) -> None:
    group = _group(means, name)
    tokens = stats.tokens("transformer", name, "fit")
    x = tokens.rows.double() * means.weights.input_gain(group).double()
    expected = tokens.weight.double() @ x / tokens.weight.double().sum()
    found = means.storable(group, lambda tensor: _read(means, tensor))
    assert found is not None
    assert torch.allclose(found.double(), expected, atol=2.0**-5)
    assert torch.count_nonzero(found)


def test_of_what_all_blocks_read_it_is_what_was_decided(means: Means) -> None:
    def unread(name: str) -> Tensor:
        raise AssertionError(name)

    found = means.of(_group(means, "image"), unread)
    assert found is not None
    assert torch.equal(found, torch.arange(32.0))
    assert means.of(_group(means, "text"), unread) is None
    assert means.of(_group(means, "blocks.0.ffn.down"), unread) is None


def test_behind_gelu_the_linear_itself_subtracts_it_where_it_can(means: Means, stats: ActivationStats) -> None:
    group = _group(means, "blocks.0.ffn.down")
    able = replace(means, subtracts=True)
    mean = able.of(group, lambda tensor: _read(means, tensor))
    assert mean is not None
    assert torch.equal(mean, nearest_bf16(able.inputs.mean_of(group)))
    (linear,) = group.reads
    weight, bias = _read(means, f"{linear}.weight"), _read(means, f"{linear}.bias")
    changed = able.changed(group, {linear: weight}, mean, lambda tensor: _read(means, tensor))
    assert changed.keys() == {f"{linear}.bias", f"{group.name}.mean"}
    expected = bias.double() + weight.double() @ mean.double()
    assert torch.allclose(changed[f"{linear}.bias"].double(), expected, atol=1e-5)
    assert torch.equal(changed[f"{group.name}.mean"], mean)


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_producer_loses_it_and_readers_get_it(means: Means, name: str) -> None:
    group, producer = _group(means, name), PRODUCERS[name]
    before = _read(means, producer)
    mean = before - nearest_bf16(before - 1.5)
    block = block_of(name) or 0
    weights = {linear: _read(means, f"{linear}.weight") for linear in group.reads if block_of(linear) == block}
    expected = {
        f"{linear}.bias": _read(means, f"{linear}.bias").double() + weight.double() @ mean.double()
        for linear, weight in weights.items()
    }
    outside = {producer: before.double() - mean, f"{name}.mean": mean.double()}
    moved = means.moved(group, mean, lambda tensor: _read(means, tensor))
    changed = means.changed(group, weights, mean, lambda tensor: _read(means, tensor))
    # `image` was decided before the first block, and what produces it changed there.
    for found, wanted in ((moved, outside), (changed, expected if name == "image" else expected | outside)):
        assert found.keys() == wanted.keys()
        for tensor, value in wanted.items():
            assert torch.allclose(found[tensor].double(), value, atol=1e-5), tensor
