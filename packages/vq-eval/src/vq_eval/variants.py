"""Variants of a model whose videos are compared: each is made from the one before it, in place, on the device."""

import torch
from torch import nn

from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedComponent
from vq_core.topology import Topology
from vq_eval.fake_quant_linear import FakeQuantLinear, GainLinear

VARIANTS = ("full", "smoothed", "fake-quant")


@torch.no_grad()
def apply_smoothed(transformer: nn.Module, weights: SmoothedComponent, device: str) -> None:
    """Turn a full-precision `transformer` into its smoothed twin, shard by shard; every tensor keeps its dtype."""
    topology = weights.topology
    parameters = dict(transformer.named_parameters())
    for names in topology.shards().values():
        for name, tensor in weights.load(names, device).items():
            parameters[name].copy_(tensor)
    for linear, gain in _gains(topology).items():
        plain = transformer.get_submodule(linear)
        assert isinstance(plain, nn.Linear)
        loaded = weights.load([gain], device)[gain]
        transformer.set_submodule(linear, GainLinear(plain.weight, plain.bias, loaded))


@torch.no_grad()
def apply_fake_quant(
    transformer: nn.Module, weights: SmoothedComponent, qparams: QuantParams, component: str, device: str
) -> None:
    """Turn a smoothed `transformer` into one whose block linears simulate quantization."""
    corrected = qparams.corrected_biases(component)
    gains = _gains(weights.topology)
    for linear in weights.topology.linears:
        bias_name = f"{linear.name}.bias"
        if linear.name in corrected:
            bias = qparams.artifact.tensors(component, [bias_name], device)[bias_name]
        else:
            bias = weights.load([bias_name], device)[bias_name]
        gain = gains.get(linear.name)
        simulated = FakeQuantLinear(
            qparams.linear(component, linear.name, device),
            bias.float(),
            None if gain is None else weights.load([gain], device)[gain],
            qparams.scheme.activation,
        )
        transformer.set_submodule(linear.name, simulated)


def _gains(topology: Topology) -> dict[str, str]:
    """Linears whose input a gain multiplies → name of the gain."""
    gains = {linear.name: topology.gain_of(linear.name) for linear in topology.linears}
    return {linear: gain for linear, gain in gains.items() if gain is not None}
