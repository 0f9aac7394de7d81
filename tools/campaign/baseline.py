"""How each command line ends without harm: what it makes, prints, and leaves; twice, to know what varies."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from campaign.child import Call, Outcome
from campaign.file_events import watch
from campaign.outputs import Leaves, leaves_of, varying_between
from campaign.pantry import ALL, OWN, copy_inputs, import_what, new_folder
from campaign.roads import Road

RUNS = 2


@dataclass(frozen=True)
class Baseline:
    """An unharmed run of a road.

    Attributes:
        right: what it makes.
        varying: names of values that differ between two such runs.
        lines: its lines on stderr and stdout without numbers.
        entries: what is new in the working directory, at the top.
        seconds: how long it takes.
        peak: its largest resident memory in bytes.
        events: how many events of the file system it has, see `campaign.kills`.
    """

    right: Leaves
    varying: frozenset[str]
    lines: frozenset[str]
    entries: frozenset[str]
    seconds: float
    peak: int
    events: int


def baseline_of(road: Road, inputs: Path, place: Path, runs: int = RUNS) -> Baseline:
    """Run `road` as it is, several times.

    Raises:
        SystemExit: it fails, or leaves no output.
    """
    made, outcomes, entries = [], [], set[str]()
    note = place / "events"
    for number in range(runs):
        folder = new_folder(place / str(number) / "here")
        names = road.reads(ALL)
        copy_inputs(inputs, names, folder)
        outcome = import_what(Call(road.line, folder), watch(folder, lambda count: note.write_text(str(count))))
        if outcome.code != 0:
            raise SystemExit(
                f"{road.line} ended with {outcome.code} although nothing was done to it:\n{outcome.stderr}"
            )
        made.append(leaves_of(folder, road.output, outcome.stdout))
        entries |= {path.name for path in folder.iterdir()} - {*names, *OWN}
        outcomes.append(outcome)
    return Baseline(
        right=made[0],
        varying=frozenset(varying_between(made)),
        lines=frozenset(line for outcome in outcomes for line in shapes_of(outcome)),
        entries=frozenset(entries),
        seconds=outcomes[-1].seconds,
        peak=max(outcome.peak for outcome in outcomes),
        events=int(note.read_text()) if note.exists() else 0,
    )


def to_json(baseline: Baseline) -> dict[str, object]:
    """A baseline as JSON, to be kept."""
    fields = asdict(baseline)
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}


def from_json(kept: dict[str, Any]) -> Baseline:
    """The baseline that was kept."""
    fields: dict[str, Any] = {name: frozenset(it) if isinstance(it, list) else it for name, it in kept.items()}
    return Baseline(**fields)


def shapes_of(outcome: Outcome) -> list[str]:
    """The lines on stderr without numbers."""
    return [shape_of(line) for line in outcome.stderr.splitlines() if line.strip()]


def shape_of(line: str) -> str:
    """A line without its numbers, and without the time that is left, which has words of its own."""
    line = re.sub(r"[\d.,]+", "", line)
    return re.sub(r" +(s|min|h) ( *(s|min|h))* *left$", " left", line).strip()
