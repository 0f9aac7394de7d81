"""Numbers out of their range are refused, wherever they come from."""

from typing import Annotated, Any

import pytest
from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vq_core.errors import VqError
from vq_core.recipes.ranges import Guidance, Seconds, Seed, Steps, parse_size, range_of, require_in_range


@pytest.mark.parametrize(
    ("annotation", "value", "allowed"),
    [
        (Guidance | None, float("inf"), "a number from 0 to 100"),
        (Guidance | None, float("-inf"), "a number from 0 to 100"),
        (Guidance | None, float("nan"), "a number from 0 to 100"),
        (Guidance, -1.0, "a number from 0 to 100"),
        (Steps, 0, "a whole number from 1 to 1000"),
        (Annotated[Steps | None, "more"], 1001, "a whole number from 1 to 1000"),
        (Seed, -1, "a whole number from 0 to 18446744073709551615"),
        (Seed, 2**64, "a whole number from 0 to 18446744073709551615"),
        (Seconds, 0.0, "a number above 0 and at most 1000000"),
        (Seconds, float("nan"), "a number above 0 and at most 1000000"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(annotation: object, value: float, allowed: str) -> None:
    with pytest.raises(VqError, match=rf"^it is {value}: give {allowed}\.$"):
        require_in_range(value, annotation, "it")


@pytest.mark.parametrize(
    ("annotation", "value"), [(Guidance | None, None), (Guidance, 0.0), (Guidance, 100.0), (Seed, 2**64 - 1), (int, -5)]
)
def test_what_is_in_range_or_has_none_is_taken(annotation: object, value: Any) -> None:
    require_in_range(value, annotation, "it")


@given(value=st.floats(allow_nan=False), annotation=st.sampled_from([Guidance, Seconds]))
def test_pydantic_agrees(value: float, annotation: Any) -> None:
    allowed = range_of(annotation)
    assert allowed is not None
    assert isinstance(allowed.interval, Interval)
    try:
        TypeAdapter(annotation).validate_python(value)
        valid = True
    except ValidationError:
        valid = False
    assert valid == (value in allowed)


def test_sizes_in_bytes() -> None:
    assert parse_size(None, "--keep-size") is None
    for said, size in (("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5 gb", 1_500_000_000), ("12", 12)):
        assert parse_size(said, "--keep-size") == size
    for said in ("", "-3MB", "much", "1e3MB", "3 apples"):
        with pytest.raises(VqError, match=f"^--keep-size is `{said}`: give a size such as 500MB or 2GiB"):
            parse_size(said, "--keep-size")
