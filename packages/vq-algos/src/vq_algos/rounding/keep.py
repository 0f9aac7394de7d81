"""Which linears stay in full precision: those whose measured error is largest for the bytes that keeping them adds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vq_core.numerics.grouped import GROUP
from vq_core.numerics.scheme import QuantScheme, scheme_named
from vq_core.topology import Topology, shard_of

FULL_BITS = 16


@dataclass(frozen=True)
class Shared:
    """Linears of one block that read one input, which is quantized for all of them or for none.

    Attributes:
        component: their transformer.
        linears: their names.
        size: bytes that keeping them in full precision adds to a checkpoint.
        noise: Σ of noise over signal of their outputs on held-out tokens.
        snr_db: of the one with the largest noise; None if none has any, or none was measured.
        named: whether they stay in full precision whatever their error.
    """

    component: str
    linears: tuple[str, ...]
    size: int
    noise: float
    snr_db: float | None
    named: bool = False


def shared_inputs(
    component: str,
    topology: Topology,
    decisions: Mapping[str, Mapping[str, Any]],
    scheme: str,
    named: Collection[str] = (),
) -> list[Shared]:
    """The linears of `component` by input and block, with the output SNR that `decisions` say of each, if they do.

    They would be quantized in the scheme that their decision says, else in `scheme`. The linears `named` stay in full
    precision, together with those that read the same input.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for group in topology.groups:
        for linear in group.reads:
            found.setdefault((group.name, shard_of(linear)), []).append(linear)
    return [_shared(component, linears, topology, decisions, scheme, named) for linears in found.values()]


def _shared(
    component: str,
    linears: Sequence[str],
    topology: Topology,
    decisions: Mapping[str, Mapping[str, Any]],
    scheme: str,
    named: Collection[str],
) -> Shared:
    shapes = [topology.linear(name) for name in linears]
    added = (_added_bytes(scheme_named(decisions[name].get("scheme", scheme))) for name in linears)
    snrs = [snr for name in linears if (snr := decisions[name].get("output_snr_db")) is not None]
    return Shared(
        component=component,
        linears=tuple(linears),
        size=int(sum(each * it.in_features * it.out_features for each, it in zip(added, shapes, strict=True))),
        noise=sum(10 ** (-snr / 10) for snr in snrs),
        snr_db=min(snrs, default=None),
        named=not set(named).isdisjoint(linears),
    )


def _added_bytes(scheme: QuantScheme) -> float:
    """What a runtime holds more of a weight in full precision, the row's scale aside."""
    return (FULL_BITS - scheme.bits) / 8 - (1 / GROUP if scheme.grouped else 0)


def kept_linears(inputs: Iterable[Shared], *, size: int | None, min_snr_db: float | None) -> dict[str, tuple[str, ...]]:
    """Names of the linears to keep in full precision, by component; those that read one input together.

    Args:
        inputs: linears by what they read. The named ones are kept.
        size: how many bytes others may add, taken in the order of noise per byte as long as the next ones fit; None for
            any number.
        min_snr_db: others only where a linear has less output SNR; None for wherever there is noise.
    """
    inputs = list(inputs)
    kept = [it for it in inputs if it.named]
    too_noisy = [it for it in inputs if it.snr_db is not None and (min_snr_db is None or it.snr_db < min_snr_db)]
    for it in sorted(too_noisy, key=lambda it: -it.noise / it.size):
        if it.named or (size is not None and it.size > size):
            continue
        size = None if size is None else size - it.size
        kept.append(it)
    names: dict[str, tuple[str, ...]] = {}
    for it in kept:
        names[it.component] = (*names.get(it.component, ()), *it.linears)
    return names
