"""The limits of a gate: `--min-psnr`, `--min-ssim`, and the file of `--gate`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from vq_core.errors import VqError
from vq_core.recipes.typed_yaml import Section, load_yaml, refusal, validated
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy

Kind = Literal["worst", "mean", "worse_than_floor_by", "worse_than_reference_by"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Limit:
    """One limit on one metric.

    Attributes:
        kind: `worst` limits every video and `mean` their mean to `value`, the least figure, or the greatest where lower
            is better; the others limit the mean by that of the floor or of the reference.
        value: in the metric's unit.
        source: an option with its value, or the name of a file.
        rows: the rows that it applies to; None for every candidate.
    """

    metric: str
    kind: Kind
    value: float
    source: str
    rows: tuple[str, ...] | None = None


class _Entry(Section):
    metric: str
    worst: float | None = None
    mean: float | None = None
    worse_than_floor_by: float | None = Field(default=None, ge=0)
    worse_than_reference_by: float | None = Field(default=None, ge=0)
    rows: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> "_Entry":
        if all(getattr(self, kind) is None for kind in KINDS):
            raise refusal(f"which limits nothing: give it one of {', '.join(KINDS)}.")
        return self


class _Gate(Section):
    gates: Annotated[tuple[_Entry, ...], Field(strict=False, min_length=1)]


def option_limits(minima: Mapping[str, float | None]) -> tuple[Limit, ...]:
    """The limits of `--min-METRIC`, by metric; None where one was not given.

    Raises:
        VqError: one is NaN or infinite.
    """
    limits = []
    for metric, minimum in minima.items():
        if minimum is None:
            continue
        if not math.isfinite(minimum):
            raise VqError(f"`--min-{metric} {minimum}` is not a threshold: give a finite number.")
        limits.append(Limit(metric, "worst", minimum, f"--min-{metric} {minimum:g}"))
    return tuple(limits)


def read_gate(location: Location) -> tuple[Limit, ...]:
    """The limits in a YAML or JSON file, see docs/formats/gate.md.

    Raises:
        VqError: the file is missing, is not YAML, or has other content than limits.
    """
    path = local_copy(location)
    gate = validated(_Gate, load_yaml(path, what="gate"), path)
    return tuple(
        Limit(entry.metric, kind, value, path.name, entry.rows)
        for entry in gate.gates
        for kind in KINDS
        if (value := getattr(entry, kind)) is not None
    )
