"""Which linears cost most: what rounding each of them to nearest would do to its output, in INT8 and in FP8.

The cost of a linear is its relative output error Σ_t w_t ‖x_t·Wᵀ − x̂_t·Ŵᵀ‖² / Σ_t w_t ‖x_t·Wᵀ‖² on held-out tokens, the
others left in full precision: what one would gain by treating it better, or by leaving it out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vq_algos.layer.output_error import HeldOutError, snr_db
from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedWeights
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import SCHEMES, QuantScheme
from vq_core.runtime.progress import progress
from vq_core.topology import shard_of


@dataclass(frozen=True)
class Cost:
    """One linear under one scheme; SNRs in dB, None where there is no signal or no noise.

    Attributes:
        component: its transformer.
        linear: its name.
        scheme: `int8` or `fp8`.
        relative_error: noise over signal of its output.
        output_snr_db: the same in dB.
        activation_snr_db: with the activations quantized alone.
        weight_only_snr_db: with the weight rounded alone.
    """

    component: str
    linear: str
    scheme: str
    relative_error: float
    output_snr_db: float | None
    activation_snr_db: float | None
    weight_only_snr_db: float | None


def costs(weights: SmoothedWeights, stats: ActivationStats, device: str = "cpu") -> list[Cost]:
    """Costs of every linear under every scheme, the most expensive first. One block in memory at a time."""
    found: list[Cost] = []
    total = sum(component.topology.num_blocks for component in weights.components.values())
    with progress("sensitivity", total, "block") as advance:
        for name, component in weights.components.items():
            inputs = {
                scheme: SampledInputs(name, component, stats, scheme.activation, device) for scheme in SCHEMES.values()
            }
            for block in component.topology.block_shards:
                found += _costs_of_block(inputs, block)
                advance()
    return sorted(found, key=lambda cost: -cost.relative_error)


def _costs_of_block(inputs: dict[QuantScheme, SampledInputs], block: str) -> Iterator[Cost]:
    for scheme, source in inputs.items():
        for group in source.component.topology.groups:
            linears = [linear for linear in group.reads if shard_of(linear) == block]
            held_out = source.inputs_of(group).held_out if linears else None
            for linear in linears:
                assert held_out is not None
                weight = source.component.linear(linear, source.device).float()
                judge = HeldOutError(weight, held_out)
                rounded = dequantize(quantize_weight(weight, scheme.weight))
                signal, noise = judge.signal.total, judge.error(rounded).total
                yield Cost(
                    source.name,
                    linear,
                    scheme.name,
                    noise / signal if signal else 0.0,
                    snr_db(signal, noise),
                    snr_db(signal, judge.activation_error().total),
                    snr_db(signal, judge.weight_error(rounded).total),
                )
