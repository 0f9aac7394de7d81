"""Linears that stay in full precision between quantized ones, which have changed what these read and must give."""

from torch import Tensor

from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.numerics.centering import offset_by


def exact_weight(weights: SmoothedTransformer, linear: str, device: str = "cpu") -> Tensor:
    """The weight of `linear` fp32 `[out, in]`, for the output of a modulated norm without its gain."""
    weight, gain = weights.linear(linear, device).float(), weights.topology.gain_of(linear)
    return weight if gain is None else weight * weights.gain(gain, device)


def exact_bias(
    weights: SmoothedTransformer, qparams: QuantParams, component: str, linear: str, device: str = "cpu"
) -> Tensor:
    """The bias of `linear` `[out]`, without a correction; centering of its input and of its output is in it."""
    weight, bias = weights.plain([f"{linear}.weight", f"{linear}.bias"], device).values()
    mean = qparams.mean(component, weights.topology.group_of(linear), device)
    if mean is not None:
        bias = bias.float() + weight.float() @ mean
    behind = offset_by(weights.topology, linear)
    lost = qparams.mean(component, behind, device) if behind else None
    return bias if lost is None else bias.float() - lost
