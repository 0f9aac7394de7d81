"""What `verify` found, for people and for machines."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from vq_core.errors import GateFailed
from vq_core.remote.location import Location
from vq_core.topology import block_of, place_of
from vq_export.verify.checks.block_error import BlockError

MAX_LISTED = 20
NOT_COMPARED = "There was no source to compare with: neither the linears nor a block were held against it (--model)."


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        problems: one sentence each; empty for a sound checkpoint.
        warnings: what is unusual or was not checked; a sound checkpoint may have some.
        tensors: number of tensors that were read.
        rounded: number of tensors, scales and gains aside, that the runtime's cast to bfloat16 changes.
        cast_snr_db: SNR of a block after that cast, by component.
        reference: name of the model that the checkpoint was compared with; None where there was none.
        weight_snr_db: by component and linear.
        blocks: by component, the error of the block that was computed.
    """

    problems: list[str]
    warnings: list[str] = field(default_factory=list)
    tensors: int = 0
    rounded: int = 0
    cast_snr_db: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    weight_snr_db: dict[str, dict[str, float]] = field(default_factory=dict)
    blocks: dict[str, BlockError] = field(default_factory=dict)

    def rows(self) -> dict[str, str]:
        """Summary: problems, warnings, what was compared, and the errors of linears by their place in the block."""
        rows = {
            "tensors": str(self.tensors),
            "problems": str(len(self.problems)),
            **_listed("problem", self.problems),
            "warnings": str(len(self.warnings)),
            **_listed("warning", self.warnings),
            "compared with": self.reference or "nothing",
        }
        for name, snr in self.cast_snr_db.items():
            rows[f"{name} loaded as bfloat16"] = (
                f"scales and gains unchanged, {self.rounded} other tensors rounded: a block keeps {_db(snr)}"
            )
        for name, block in self.blocks.items():
            for branch, error in block.branches.items():
                rows[f"{name} block {block.block}, {branch.replace('_', ' ')}"] = (
                    f"SNR {_db(error.snr_db)}, {error.excess_db:+.1f} dB noise beside rounding to nearest "
                    f"(limit {block.limit_db:.0f})"
                )
        for name, snrs in self.weight_snr_db.items():
            rows |= {f"{name} {place}": text for place, text in by_place(snrs).items()}
        return rows

    def as_json(self) -> dict[str, Any]:
        """All of it; JSON has no infinity, so null is the SNR of what is exact."""
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "tensors": self.tensors,
            "rounded_on_load": self.rounded,
            "cast_snr_db": _finite(self.cast_snr_db),
            "reference": self.reference,
            "weight_snr_db": {name: _finite(snrs) for name, snrs in self.weight_snr_db.items()},
            "blocks": {
                name: asdict(block)
                | {"branches": {branch: _finite(asdict(error)) for branch, error in block.branches.items()}}
                for name, block in self.blocks.items()
            },
        }


def by_place(snrs: Mapping[str, float | None]) -> dict[str, str]:
    """By place in the block, the median of its linears' SNRs in dB and the lowest; None: the codes are exact."""
    places: dict[str, dict[str, float]] = {}
    for linear, snr in snrs.items():
        places.setdefault(place_of(linear), {})[linear] = math.inf if snr is None else snr
    rows: dict[str, str] = {}
    for place, found in places.items():
        lowest = min(found, key=found.__getitem__)
        rows[place] = f"SNR {_db(median(found.values()))}, lowest {_db(found[lowest])} (block {block_of(lowest)})"
    return rows


def enforce(found: Verification, path: Location, *, strict: bool = False) -> None:
    """Fail on any problem; with `strict` on any warning too.

    Raises:
        GateFailed: with the number of problems or warnings and the first of them.
    """
    if found.problems:
        raise GateFailed(f"{path} has {_first('problem', found.problems)} Export it again.")
    if strict and found.warnings:
        raise GateFailed(f"{path} has {_first('warning', found.warnings)} Without --strict it passes.")


def _first(what: str, sentences: list[str]) -> str:
    return (f"{len(sentences)} {what}s, the first" if len(sentences) > 1 else f"a {what}") + f": {sentences[0]}"


def _listed(what: str, sentences: list[str]) -> dict[str, str]:
    return {f"{what} {number}": sentence for number, sentence in enumerate(sentences[:MAX_LISTED], 1)}


def _finite(snrs: Mapping[str, float]) -> dict[str, float | None]:
    return {name: snr if math.isfinite(snr) else None for name, snr in snrs.items()}


def _db(snr: float) -> str:
    return f"{snr:.1f} dB"
