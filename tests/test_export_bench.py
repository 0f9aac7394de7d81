"""The page of `make bench-export` names every missed requirement and holds the same figures as its JSON."""

import json
from pathlib import Path

import pytest

from bench.export.report import PARTS, Line, Run, beside_a_copy_on_the_disk, demands, floor, write

RUN = Run("make bench-export", "2026-01-01", "2.15.0", "0.8.0", 2, 0.0, 2_840_000_000, 30, 30, 3)


def lines(convert_s: float, *, peak_bytes: int = 1 << 28, copy_s: float = 2.0, arithmetic_s: float = 1.0) -> list[Line]:
    seconds = {"arithmetic": arithmetic_s, "convert": convert_s, "convert_plainly": 20.0}
    return [
        Line("copy", "", copy_s, [copy_s], copy_s, 0),
        Line("copy_to_disk", "", 2 * copy_s, [2 * copy_s], copy_s, 0),
        *(Line(part, "", 0.5, [0.5], 0.75, 0) for part in PARTS[:-1]),
        *(
            Line(work, scheme, median, [median], 2 * median, peak_bytes)
            for scheme in ("int8", "fp8")
            for work, median in seconds.items()
        ),
    ]


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (lines(3.0), [True, True, True]),
        (lines(3.1), [True, False, True]),
        (lines(3.1, arithmetic_s=2.1), [True, True, True]),
        (lines(10.9, copy_s=10.0), [False, True, True]),
        (lines(2.0, peak_bytes=1611 << 20), [True, True, False]),
    ],
)
def test_each_demand_is_held_against_its_own_limit(found: list[Line], met: list[bool]) -> None:
    assert [demand.met for demand in demands(RUN, found)[:3]] == met


def test_page_and_json_hold_every_figure(tmp_path: Path) -> None:
    found = lines(3.21)
    page = write(tmp_path, RUN, found, demands(RUN, found)).read_text()
    assert "2 of 6 requirements are missed." in page
    assert page.count("**missed**") == 2
    assert page.count("| 3.21 | 3.21 to 3.21 | 6.42 |") == 2
    content = json.loads((tmp_path / "export_bench.json").read_text())
    assert [line["seconds"] for line in content["lines"]] == [line.seconds for line in found]
    assert [demand["met"] for demand in content["demands"]] == [True, False, True] * 2


def test_parts_are_added_up_and_shared_among_the_cores() -> None:
    first = floor(RUN, lines(3.0, arithmetic_s=2.5)).splitlines()[2]
    # 3 · 0.75 and 5 CPU seconds; on two cores half of them; 1.5 times the 2.5 s that the arithmetic takes.
    assert first == "| INT8 | 0.75 | 0.75 | 0.75 | 5.00 | 7.25 | 6.00 | 3.62 | 3.75 |"


def test_conversion_is_compared_with_a_flushed_copy() -> None:
    assert beside_a_copy_on_the_disk(lines(3.0)) == "0.75 (INT8) and 0.75 (FP8)"
    assert beside_a_copy_on_the_disk(lines(3.0, arithmetic_s=5.0)) == "0.60 (INT8) and 0.60 (FP8)"
