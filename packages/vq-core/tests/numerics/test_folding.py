"""Every exact fold in fp64 on diffusers' own transformer, and the near misses that must not be exact."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.families.wan import topology
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.topology import LinearSink, ModulationSink, ProjectionSink, block_of, shard_of

EXACT = 1e-12
GROUPS = (
    "attn1.qkv",  # norm1 to self q, k, v
    "attn1.out",  # self v to o
    "attn2.q",  # norm2 to cross q
    "attn2.out",  # cross v (and image v) to o
    "ffn.up",  # norm3 to ffn.0
    "text",  # text embedder to all cross k, v
    "image",  # image embedder's norm2 to all image k, v
)
Build = Callable[[dict[str, Any]], Any]  # the `Transformer` of conftest.py


def multiply_output(module: nn.Module, args: tuple[Tensor], output: Tensor, gain: Tensor) -> Tensor:
    return output * gain


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize(
    ("name", "stack", "ending"),
    [("i2v", "", ending) for ending in GROUPS]
    + [("vace", "vace_blocks.", ending) for ending in GROUPS if ending != "image"],
)
def test_each_fold_is_exact_and_needs_its_sink(
    transformer_of: Build, wan_configs: dict[str, dict[str, Any]], name: str, stack: str, ending: str
) -> None:
    transformer = transformer_of(wan_configs[name])
    gains = transformer.gains(transformer.groups(ending, stack))
    assert len(gains) == (1 if ending in ("text", "image") else 2)
    folded = transformer.folded(gains)
    assert transformer.relative_error(folded) < EXACT
    read = {f"{linear}.weight" for group in gains for linear in group.reads}
    assert all(not torch.equal(folded[name], transformer.tensors[name]) for name in read)
    # With the sinks left as they were, the same gains change the output: the exactness above says something.
    only_reads = {name: folded[name] if name in read else tensor for name, tensor in transformer.tensors.items()}
    # VACE's blocks steer: what they say is a part of the output.
    assert transformer.relative_error(only_reads) > (1e-3 if stack else 1e-2)


@pytest.mark.usefixtures("fp64")
def test_all_folds_together_are_exact(transformer_of: Build, wan_config: dict[str, Any]) -> None:
    transformer = transformer_of(wan_config)
    gains = transformer.gains(group for group in transformer.topology.groups if group.sink is not None)
    blocks = wan_config["num_layers"] + len(wan_config.get("vace_layers", ()))
    assert len(gains) == blocks * 5 + (1 if wan_config["image_dim"] is None else 2)
    assert transformer.relative_error(transformer.folded(gains)) < EXACT


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize("place", ["across.attn1.qkv", "across.ffn.up"])
def test_one_gain_for_the_modulated_norms_of_all_blocks_needs_no_runtime(
    transformer_of: Build, wan_config: dict[str, Any], place: str
) -> None:
    transformer = transformer_of(wan_config)
    (group,) = (group for group in transformer.topology.across_blocks if group.name == place)
    gains = transformer.gains([group])
    folded = {name: tensor for name, tensor in transformer.folded(gains).items() if name in transformer.tensors}
    assert transformer.relative_error(folded) < EXACT
    assert isinstance(group.sink, ProjectionSink)
    names = [f"{linear}.weight" for linear in group.reads]
    names += [*group.sink.tables, f"{group.sink.projection}.weight", f"{group.sink.projection}.bias"]
    assert {name for name, tensor in folded.items() if not torch.equal(tensor, transformer.tensors[name])} == set(names)
    for forgotten in ([group.sink.tables[-1]], names[-2:-1], names[-1:], names[:1]):
        without = folded | {name: transformer.tensors[name] for name in forgotten}
        assert transformer.relative_error(without) > 1e-6, forgotten


@pytest.mark.usefixtures("fp64")
def test_gains_of_single_blocks_and_of_all_blocks_together_are_exact(
    transformer_of: Build, wan_config: dict[str, Any]
) -> None:
    transformer = transformer_of(wan_config)
    own = [group for group in transformer.topology.groups if group.sink is not None]
    folded = transformer.folded(transformer.gains([*own, *transformer.topology.across_blocks]))
    assert transformer.relative_error(folded) < EXACT


@pytest.mark.usefixtures("fp64")
def test_forgetting_vace_s_blocks_in_the_text_fold_is_not_exact(
    transformer_of: Build, vace_config: dict[str, Any]
) -> None:
    """Both stacks attend to one embedded text, so its gain is in the weights of both."""
    transformer = transformer_of(vace_config)
    (text,) = transformer.groups("text")
    main_only = replace(text, reads=tuple(name for name in text.reads if name.startswith("blocks.")))
    assert transformer.relative_error(transformer.folded(transformer.gains([main_only]))) > 1e-2


@pytest.mark.usefixtures("fp64")
@pytest.mark.parametrize(("name", "stack"), [("i2v", "blocks"), ("vace", "vace_blocks")])
@pytest.mark.parametrize(("ending", "norm"), [("attn1.qkv", "norm1"), ("ffn.up", "norm3")])
def test_a_gain_that_spares_the_shift_is_not_exact(
    transformer_of: Build, wan_configs: dict[str, dict[str, Any]], name: str, stack: str, ending: str, norm: str
) -> None:
    transformer = transformer_of(wan_configs[name])
    gains = transformer.gains(transformer.groups(ending, stack=f"{stack}."))
    folded = transformer.folded(gains)
    without_gains = {name: tensor for name, tensor in folded.items() if name in transformer.tensors}
    reference = transformer.run(transformer.tensors)
    for group, gain in gains.items():
        # Ahead of the modulation, the gain multiplies LN(x)·(1 + scale) and not the shift.
        module = transformer.model.get_submodule(f"{stack}.{block_of(group.name)}.{norm}")
        module.register_forward_hook(partial(multiply_output, gain=gain))
    error = (transformer.run(without_gains) - reference).abs().max() / reference.abs().max()
    assert error > 1e-2


@pytest.mark.usefixtures("fp64")
def test_forgetting_the_image_value_projection_is_not_exact(transformer_of: Build, i2v_config: dict[str, Any]) -> None:
    transformer = transformer_of(i2v_config)
    groups = [
        replace(group, sink=LinearSink((group.name.replace("attn2.out", "attn2.to_v"),)))
        for group in transformer.groups("attn2.out")
    ]
    assert transformer.relative_error(transformer.folded(transformer.gains(groups))) > 1e-2


def test_parts_of_a_model_fold_like_the_whole(transformer_of: Build, wan_config: dict[str, Any]) -> None:
    transformer = transformer_of(wan_config)
    groups = (*transformer.topology.groups, *transformer.topology.across_blocks)
    gains = transformer.gains(group for group in groups if group.sink is not None)
    whole = transformer.folded(gains)
    together: dict[str, Tensor] = {}
    for shard, names in transformer.topology.shards().items():
        part = {name: transformer.tensors[name] for name in names}
        own = [name for name in transformer.topology.gains if shard_of(name) == shard]
        part |= {name: torch.ones(transformer.topology.gains[name]).double() for name in own}
        for group, gain in gains.items():
            fold_group(part, group, gain)
        together |= part
    assert together.keys() == whole.keys()
    assert all(torch.equal(tensor, together[name]) for name, tensor in whole.items())


def test_a_gain_is_divided_out_to_fp32_rounding(i2v_config: dict[str, Any]) -> None:
    """A bf16 gain and weights folded with exactly it: W·(1/g)·g is W to one part in 2²³."""
    group = next(group for group in topology(i2v_config).groups if isinstance(group.sink, ModulationSink))
    torch.manual_seed(0)
    gain = nearest_bf16(torch.exp(1.5 * torch.randn(group.in_features)))
    weights = {f"{linear}.weight": torch.randn(64, 64).bfloat16() for linear in group.reads}
    folded = dict(weights)
    fold_group(folded, group, gain)
    for name, weight in weights.items():
        assert folded[name].dtype == torch.float32
        assert torch.allclose(folded[name] * gain, weight.float(), rtol=2.0**-23, atol=0)


def test_untouched_tensors_stay_the_same_objects(i2v_config: dict[str, Any]) -> None:
    group = next(group for group in topology(i2v_config).groups if group.name == "blocks.0.attn2.q")
    tensors = {"blocks.1.attn2.to_q.weight": torch.ones(64, 64), "blocks.0.attn2.to_q.bias": torch.ones(64)}
    before = dict(tensors)
    fold_group(tensors, group, torch.full((64,), 2.0))
    assert all(tensors[name] is tensor for name, tensor in before.items())


def test_a_group_without_a_sink_is_refused(i2v_config: dict[str, Any]) -> None:
    group = next(group for group in topology(i2v_config).groups if group.sink is None)
    with pytest.raises(VqError, match=r"blocks\.0\.ffn\.net\.2 cannot be smoothed exactly"):
        fold_group({}, group, torch.ones(group.in_features))
