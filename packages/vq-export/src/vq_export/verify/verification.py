"""What `verify` found, for people and for machines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vq_core.errors import GateFailed
from vq_core.remote.location import Location
from vq_export.verify.checks.block_error import BlockError
from vq_export.verify.snr_summary import by_place

MAX_LISTED = 20
NOT_COMPARED = "There was no source to compare with: neither the linears nor a block were held against it (--model)."


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        problems: one sentence each; empty where the checkpoint is sound.
        warnings: what is unusual, or was not checked; a sound checkpoint may have some.
        tensors: how many were read.
        rounded: how many tensors, no scale or gain among them, LightX2V's cast to bfloat16 changes as it loads.
        cast_snr_db: what that cast leaves of a block, by component.
        reference: what the checkpoint was held against; None where there was nothing.
        weight_snr_db: by component and linear.
        blocks: by component, the block that was computed from both.
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
        """Summary: problems and warnings, what was compared, and by place in the block how far the linears are off."""
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
        """All of it; JSON has no infinity, so null is the SNR of codes that hold the weight exactly."""
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "tensors": self.tensors,
            "rounded_on_load": self.rounded,
            "cast_snr_db": _finite(self.cast_snr_db),
            "reference": self.reference,
            "weight_snr_db": {name: _finite(snrs) for name, snrs in self.weight_snr_db.items()},
            "blocks": {
                name: {
                    "block": block.block,
                    "limit_db": block.limit_db,
                    "branches": {branch: error._asdict() for branch, error in block.branches.items()},
                }
                for name, block in self.blocks.items()
            },
        }


def enforce(found: Verification, path: Location, *, strict: bool = False) -> None:
    """Fail where anything is wrong; with `strict`, where there is anything to warn of.

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
