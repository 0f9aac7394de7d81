"""Results of a campaign as counts: by road, by what was done, by verdict; and the distinct faults."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from campaign.cases import SORTS, Result
from campaign.classify import Verdict

VERDICTS = [verdict.value for verdict in Verdict]
FAULTS = [verdict.value for verdict in Verdict if verdict.is_fault]


def is_fault(result: Result) -> bool:
    """Whether the case ended as none may."""
    return result.verdict in FAULTS


def counted(found: Iterable[Result], by: Callable[[Result], str]) -> dict[str, Counter[str]]:
    """Verdicts by a property of the results, sorted by it."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for result in found:
        counts[by(result)][result.verdict] += 1
    return dict(sorted(counts.items()))


def by_sort(found: Iterable[Result]) -> dict[str, Counter[str]]:
    """Verdicts by sort of case, every sort there."""
    counts = counted(found, lambda result: result.sort)
    return {sort: counts.get(sort, Counter()) for sort in SORTS}


def distinct(found: Iterable[Result]) -> list[list[Result]]:
    """Faults of one kind together, kinds with the most cases first."""
    kinds: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for result in found:
        if is_fault(result):
            kinds[_kind(result)].append(result)
    return sorted(kinds.values(), key=lambda results: (FAULTS.index(results[0].verdict), -len(results)))


def _kind(result: Result) -> tuple[str, ...]:
    """What makes two faults one: a traceback's place, else the command and what was done."""
    if result.verdict == Verdict.TRACEBACK.value and " in vq_" in result.why:
        return result.verdict, result.why.split(":")[0], result.why.rpartition(" in vq_")[2]
    command = " ".join(result.road.split()[:2])
    if result.verdict == Verdict.UNCLEAN.value:
        return result.verdict, command, re.sub(r"[\d.]+|'.*?'", "", result.why)[:40]
    return result.verdict, command, result.what


def table(head: str, rows: dict[str, Counter[str]], columns: list[str]) -> list[str]:
    """Counts as a Markdown table with a total."""
    lines = [f"| {head} | cases | {' | '.join(columns)} |", "| --- " + "| ---: " * (len(columns) + 1) + "|"]
    total: Counter[str] = Counter()
    for name, counts in rows.items():
        total += counts
        lines.append(_row(name, counts, columns))
    return [*lines, _row("all", total, columns)]


def _row(name: str, counts: Counter[str], columns: list[str]) -> str:
    return f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[column]) for column in columns)} |"


def console_table(found: list[Result]) -> str:
    """The counts by sort, for the terminal."""
    return "\n".join(table("sort of case", by_sort(found), VERDICTS))
