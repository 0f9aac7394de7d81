"""Which linears stay in full precision: those whose measured error is largest for the bytes that keeping them adds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vq_core.topology import Topology, shard_of

ADDED_BYTES = 1
"""Per weight: a runtime holds two bytes of it in place of one."""


@dataclass(frozen=True)
class Shared:
    """Linears of one block that read one input, which is quantized for all of them or for none.

    Attributes:
        component: their transformer.
        linears: their names.
        size: bytes that keeping them in full precision adds to a checkpoint.
        noise: Σ of noise over signal of their outputs on held-out tokens.
        snr_db: of the one with the largest noise; None if none has any.
    """

    component: str
    linears: tuple[str, ...]
    size: int
    noise: float
    snr_db: float | None


def shared_inputs(component: str, topology: Topology, decisions: Mapping[str, Mapping[str, Any]]) -> list[Shared]:
    """The linears of `component` by input and block, with the output SNR that `decisions` say of each."""
    found: dict[tuple[str, str], list[str]] = {}
    for group in topology.groups:
        for linear in group.reads:
            found.setdefault((group.name, shard_of(linear)), []).append(linear)
    return [_shared(component, linears, topology, decisions) for linears in found.values()]


def _shared(
    component: str, linears: Sequence[str], topology: Topology, decisions: Mapping[str, Mapping[str, Any]]
) -> Shared:
    shapes = [topology.linear(name) for name in linears]
    snrs = [snr for name in linears if (snr := decisions[name]["output_snr_db"]) is not None]
    return Shared(
        component=component,
        linears=tuple(linears),
        size=ADDED_BYTES * sum(linear.in_features * linear.out_features for linear in shapes),
        noise=sum(10 ** (-snr / 10) for snr in snrs),
        snr_db=min(snrs, default=None),
    )


def kept_linears(inputs: Iterable[Shared], *, size: int | None, min_snr_db: float | None) -> dict[str, tuple[str, ...]]:
    """Names of the linears to keep in full precision, by component; those that read one input together.

    Args:
        inputs: linears by what they read.
        size: how many bytes they may add, taken in the order of noise per byte as long as the next ones fit; None for
            any number.
        min_snr_db: only where a linear has less output SNR; None for wherever there is noise.
    """
    too_noisy = [it for it in inputs if it.snr_db is not None and (min_snr_db is None or it.snr_db < min_snr_db)]
    kept: dict[str, tuple[str, ...]] = {}
    for it in sorted(too_noisy, key=lambda it: -it.noise / it.size):
        if size is not None and it.size > size:
            continue
        size = None if size is None else size - it.size
        kept[it.component] = (*kept.get(it.component, ()), *it.linears)
    return kept
