"""docs/reliability.md: what a campaign did, what came of it, and the faults that it found."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from campaign.cases import Result
from campaign.classify import Verdict
from campaign.summary import VERDICTS, by_sort, counted, distinct, table

INTRODUCTION = """\
# Reliability: a campaign against ourselves

Written by `make campaign` on {date}, seed {seed}: {cases} cases{minutes} on {cores} CPU cores ({machine}), Python
{python}, torch {torch}. Random tiny models; every command that takes files; every file that a command reads may be
the one that is damaged.

| verdict | meaning |
| --- | --- |
{verdicts}

"Taken" needs all of this: what was changed is the user's own file and has no digest, an independent strict reader
(safetensors, Pillow, ffmpeg, JSON and YAML without repeated keys) accepts it, and every number in the output is finite.

| sort of case | what is done |
| --- | --- |
{sorts}

"""
MEANING = {
    Verdict.REFUSED: "exit code 2, or 1 for a gate, and one sentence",
    Verdict.HARMLESS: "exit code 0, and the output of the run without harm",
    Verdict.TAKEN: "exit code 0 and another output, which is right",
    Verdict.WRONG: "exit code 0 and any other output, or a result that was not printed",
    Verdict.TRACEBACK: "Python's, or a failed flush of stdout",
    Verdict.HANG: "not ended after 60 s",
    Verdict.MEMORY: "more than 512 MiB of memory beyond the run without harm, so about that with the libraries",
    Verdict.SIGNAL: "ended by one",
    Verdict.LOST: "an input was changed, what was finished is gone, or a killed run cannot go on",
    Verdict.LEFTOVERS: "files beside the output, or processes, that nobody needs",
    Verdict.UNCLEAN: "a refusal of no line or several, control characters on the terminal, another exit code",
}
DONE = {
    "damage": "one file of one input is damaged: its bytes, its entry in the folder, or its content, by its kind",
    "surroundings": "environment, streams, limits, permissions, or something in the way of the output",
    "odd words": "an option or the output has an odd value",
    "kills": "killed at a random moment or call of the file system, sometimes twice, sometimes with what was left "
    "damaged; run again",
    "two at once": "the same command twice on one output at the same time",
    "S3": "inputs and output in a bucket behind a network that fails; run again when it is healthy",
}


def write_page(path: Path, found: list[Result], seed: int, minutes: float | None, with_s3: bool) -> None:
    """Write the page."""
    introduction = INTRODUCTION.format(
        date=datetime.now(UTC).date().isoformat(),
        seed=seed,
        cases=f"{len(found):,}",
        minutes="" if minutes is None else f" in {minutes:g} minutes",
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
        torch=torch.__version__,
        verdicts="\n".join(f"| {verdict.value} | {meaning} |" for verdict, meaning in MEANING.items()),
        sorts="\n".join(f"| {sort} | {done} |" for sort, done in DONE.items()),
    )
    lines = ["## Verdicts", "", *table("sort of case", by_sort(found), VERDICTS), ""]
    if not with_s3:
        lines += ["moto is not installed, so no case of S3 was played.", ""]
    lines += ["## By what was done", "", *table("what", counted(found, lambda it: it.what), VERDICTS), ""]
    lines += ["## By command", "", *table("command", counted(found, _command), VERDICTS), ""]
    lines += ["## Known faults", "", *_faults(found, seed), ""]
    path.write_text(introduction + "\n".join(lines), encoding="utf-8")


def _command(result: Result) -> str:
    return f"`{' '.join(result.road.split()[:2])}`"


def _faults(found: list[Result], seed: int) -> list[str]:
    kinds = distinct(found)
    if not kinds:
        return ["None."]
    lines = [
        f"{len(kinds)} kinds. `make campaign SEED={seed} REPLAY=NUMBER` plays a case again and shows all of it.",
        "",
        "| verdict | cases | first of them | command | what was done | why |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    for results in kinds:
        first = results[0]
        cells = (first.verdict, str(len(results)), str(first.number), _command(first), first.what, first.why)
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return lines


def _cell(text: str) -> str:
    """Text that neither ends a cell nor holds control characters."""
    clean = "".join(it if it.isprintable() else repr(it)[1:-1] for it in text)
    return clean.replace("|", "\\|").replace("<", "&lt;")[:160]
