"""The numbers that a setting may be, whether an option, a recipe, a model or an artifact says it.

Each is an `int` or `float` with its `Interval`: pydantic checks those in files, `require_in_range` all others. NaN lies
in no interval.
"""

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from annotated_types import Interval

from vq_core.errors import VqError

Steps = Annotated[int, Interval(ge=1, le=1000)]
"""Denoising steps; the model was trained on 1000 noise levels."""
Side = Annotated[int, Interval(ge=1, le=16384)]
"""Height or width in pixels; H.264 has no larger pictures."""
FrameCount = Annotated[int, Interval(ge=1, le=100_001)]
Guidance = Annotated[float, Interval(ge=0, le=100)]
FrameRate = Annotated[int, Interval(ge=1, le=1000)]
"""In frames per second."""
Seed = Annotated[int, Interval(ge=0, le=2**64 - 1)]
"""What `torch.Generator.manual_seed` takes."""
Share = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Interval(ge=1, le=1_000_000)]
TokenCount = Annotated[int, Interval(ge=0, le=1_000_000)]
Seconds = Annotated[float, Interval(gt=0, le=1_000_000)]
Decibels = Annotated[float, Interval(ge=0, le=1000)]
Similarity = Annotated[float, Interval(ge=-1, le=1)]


@dataclass(frozen=True)
class Range:
    """An interval and the type of the numbers in it."""

    of: type
    interval: Interval

    def __contains__(self, value: float) -> bool:
        interval: Any = self.interval
        above = value > interval.gt if interval.ge is None else value >= interval.ge
        return bool(above and value <= interval.le)

    def __str__(self) -> str:
        number, interval = "a whole number" if self.of is int else "a number", self.interval
        low = f"above {interval.gt} and at most" if interval.ge is None else f"from {interval.ge} to"
        return f"{number} {low} {interval.le}"


def range_of(annotation: object) -> Range | None:
    """The range in an annotation such as `Steps`, `Steps | None` or `Annotated[Steps, …]`; None where there is none."""
    metadata = getattr(annotation, "__metadata__", ())
    interval = next((it for it in metadata if isinstance(it, Interval)), None)
    if interval is not None:
        return Range(get_args(annotation)[0], interval)
    return next((found for inner in get_args(annotation) if (found := range_of(inner))), None)


def require_in_range(value: float | None, annotation: object, name: str) -> None:
    """Refuse a number outside of the range of `annotation`; None is "not said". `name` is what the sentence calls it.

    Raises:
        VqError: gives the range.
    """
    allowed = range_of(annotation)
    if value is not None and allowed is not None and value not in allowed:
        raise VqError(f"{name} is {value}: give {allowed}.")


def parse_size(said: str | None, name: str) -> int | None:
    """The bytes of a size such as `500MB` or `2GiB`; None is "not said". `name` is what the sentence calls it.

    Raises:
        VqError: it is no size.
    """
    if said is None:
        return None
    from pydantic import ByteSize, TypeAdapter, ValidationError  # help lists ranges, and has to be there at once

    try:
        return int(TypeAdapter(ByteSize).validate_python(said))
    except ValidationError:
        raise VqError(f"{name} is `{said}`: give a size such as 500MB or 2GiB.") from None
