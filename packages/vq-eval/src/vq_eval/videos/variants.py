"""Variants of a model whose videos are compared. Each is made in place, from full precision or from one before it."""

from collections.abc import Collection, Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from vq_core.artifacts.kept import exact_bias, exact_weight
from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.recipes.recipe import Variant
from vq_core.topology import Topology
from vq_eval.videos.fake_quant_linear import FakeQuantLinear, GainLinear

VARIANTS: tuple[Variant, ...] = get_args(Variant)


def apply_smoothed(transformer: nn.Module, weights: SmoothedTransformer, device: str) -> None:
    """Turn a full-precision `transformer` into its smoothed twin, shard by shard; every parameter keeps its dtype.

    In a float32 model the twin is the same function up to fp32 rounding. In a bfloat16 model the folded weights are
    rounded to bfloat16 a second time, as they are in any bfloat16 runtime, and that rounding shows in its videos: what
    separates them from full precision's is the cost of bfloat16 and no error of the folding. Fake-quant videos do not
    bear that cost in their block linears, whose codes were rounded once, from the folded weights as stored.
    """
    for names in weights.topology.shards().values():
        _fill(transformer, weights.plain(names, device))
    for linear, gain in _gains_of_linears(weights, device).items():
        transformer.set_submodule(linear, GainLinear(transformer.get_submodule(linear), gain))


def apply_fake_quant(
    transformer: nn.Module,
    weights: SmoothedTransformer,
    qparams: QuantParams,
    component: str,
    device: str,
    ignored: Collection[str] = (),
) -> None:
    """Turn a full-precision or smoothed `transformer` into one whose block linears simulate quantization.

    The linears `ignored` stay in full precision, smoothed like their neighbours: those share their input, and what
    feeds them is divided by the gain already. Those that `qparams` keep are as a checkpoint has them.
    """
    kept = qparams.kept(component)
    ignored = [name for name in ignored if name not in kept]
    simulated = [linear for linear in weights.topology.linears if linear.name not in {*ignored, *kept}]
    # After the smoothed variant these are filled and have their gains already.
    done = {name for name in ignored if isinstance(transformer.get_submodule(name), GainLinear)}
    others = (*done, *kept, *(linear.name for linear in simulated))
    apart = {f"{name}.{part}" for name in others for part in ("weight", "bias")}
    for names in weights.topology.shards().values():
        plain = weights.plain((name for name in names if name not in apart), device)
        _fill(transformer, plain | qparams.replacements(component, plain, device))
    gains = _gains_of_linears(weights, device)
    for name in ignored:
        place = f"{name}.linear" if name in done else name
        _fill(transformer, {f"{place}.bias": exact_bias(weights, qparams, component, name, device)})
    for name in kept:
        weight, bias = exact_weight(weights, name, device), exact_bias(weights, qparams, component, name, device)
        module = transformer.get_submodule(name)
        if isinstance(module, GainLinear):
            transformer.set_submodule(name, module.linear)
        _fill(transformer, {f"{name}.weight": nearest_bf16(weight), f"{name}.bias": nearest_bf16(bias)})
    for name in gains.keys() & set(ignored) - done:
        transformer.set_submodule(name, GainLinear(transformer.get_submodule(name), gains[name]))
    for linear in simulated:
        smoothed = weights.plain([f"{linear.name}.bias"], device)
        (bias,) = (smoothed | qparams.replacements(component, smoothed, device)).values()
        codes = qparams.linear(component, linear.name, device)
        # In bfloat16, as checkpoints store it.
        mean = qparams.input_mean(component, weights.topology.group_of(linear.name), device)
        module = FakeQuantLinear(codes, nearest_bf16(bias), gains.get(linear.name), mean)
        transformer.set_submodule(linear.name, module)


@torch.no_grad()
def _fill(transformer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        parameter = transformer.get_parameter(name)
        # In new memory: where a parameter lies in its file decides in which order the CPU sums its products.
        parameter.data = tensor.to(parameter.device, parameter.dtype, copy=True)


def _gains_of_linears(weights: SmoothedTransformer, device: str) -> dict[str, Tensor]:
    """The gains that multiply inputs, fp32 `[in]`, by the name of the linear that reads the input."""
    topology: Topology = weights.topology
    gains = {name: weights.gain(name, device) for name in topology.gains}
    names = {linear.name: topology.gain_of(linear.name) for linear in topology.linears}
    return {linear: gains[name] for linear, name in names.items() if name is not None}
