"""The project attacks itself: damaged inputs, kills, odd surroundings, two at once, storage that fails.

Run by `make campaign MINUTES=… SEED=…`; what came of it is written to docs/reliability.md. Every case follows from the
seed and its number, so that `--replay NUMBER` plays it again.
"""

import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, NoReturn

# Before anything imports numpy or torch: a process with threads is no process to fork.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import typer

from campaign.baseline import Baseline, baseline_of, from_json, to_json
from campaign.cases import Ground, Result, draw, play
from campaign.crew import results
from campaign.page import write_page
from campaign.pantry import attacked, keep_modules, kept_inputs, threads
from campaign.roads import Road
from campaign.storage import s3_server
from campaign.summary import console_table, is_fault

PAGE = Path("docs/reliability.md")


def main(
    minutes: Annotated[float, typer.Option(help="How long cases are played.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Decides every case.")] = 0,
    cases: Annotated[int | None, typer.Option(help="Stop after so many cases instead.")] = None,
    jobs: Annotated[int, typer.Option(help="Cases that are played at a time.")] = 2,
    replay: Annotated[list[int] | None, typer.Option(help="Play this case alone; repeatable.")] = None,
    keep: Annotated[Path | None, typer.Option(help="With --replay: keep the case's folder here.")] = None,
    folder: Annotated[Path, typer.Option(help="Where inputs and results lie.")] = Path("build/campaign"),
    page: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
) -> None:
    """Play cases and write what came of them."""
    inputs = kept_inputs(folder.resolve())
    scratch = Path(mkdtemp(prefix="campaign-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        s3 = stack.enter_context(s3_server(scratch))
        roads = attacked(inputs)
        needed = {draw(seed, number, roads)[1] for number in replay} if replay else set(roads)
        baselines = _baselines(roads, needed, inputs, scratch)
        keep_modules(inputs.parent)
        ground = Ground(inputs, baselines, scratch, seed, s3)
        if threads() > 1:
            print("This process has threads, so that a child may hang where a command would not.", file=sys.stderr)
        if replay:
            for number in replay:
                _replay(ground, number, keep)
            stack.close()
            _end(0)
        found = _play_all(ground, minutes, cases, jobs)
        with (folder / "results.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(result)) + "\n" for result in found)
        print(console_table(found))
        if page is not None:
            write_page(page, found, seed, minutes if cases is None else None, s3 is not None)
            print(f"Wrote {page}")
        faults = sum(map(is_fault, found))
    _end(1 if faults else 0)


def _end(code: int) -> NoReturn:
    """End at once: the libraries that were imported for the commands have nothing to do any more."""
    sys.stdout.flush()
    os._exit(code)


def _baselines(roads: list[Road], needed: set[Road], inputs: Path, scratch: Path) -> dict[Road, Baseline]:
    """The unharmed run of every road, in the order of `roads`, kept beside the inputs; empty where it is not needed."""
    kept = inputs.with_name("baselines.json")
    there = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for number, road in enumerate(roads):
        if road in needed and road.line not in there:
            place = scratch / f"baseline-{number}"
            there[road.line] = to_json(baseline_of(road, inputs, place))
            shutil.rmtree(place, ignore_errors=True)
            kept.write_text(json.dumps(there), encoding="utf-8")
            print(f"\rwithout harm: {number + 1} of {len(roads)} commands", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {road: from_json(there[road.line]) if road.line in there else NOT_RUN for road in roads}


NOT_RUN = Baseline({}, frozenset(), frozenset(), frozenset(), 0.0, 0, 0)


def _play_all(ground: Ground, minutes: float, cases: int | None, jobs: int) -> list[Result]:
    found: list[Result] = []
    start = time.monotonic()
    ends_at = float("inf") if cases is not None else start + 60 * minutes
    said = 0.0
    for result in results(ground, jobs, cases, ends_at, lambda text: print(text, file=sys.stderr)):
        found.append(result)
        if is_fault(result):
            print(f"{result.number}: {result.verdict} ({result.why}): {result.road} [{result.what}, {result.exactly}]")
        now = time.monotonic()
        if now - said > 5:
            said = now
            left = (now - start) / len(found) * (cases - len(found)) if cases is not None else ends_at - now
            faults = sum(map(is_fault, found))
            print(f"{len(found)} cases, {faults} faults, {left:.0f} s left", file=sys.stderr)
    return sorted(found, key=lambda it: it.number)


def _replay(ground: Ground, number: int, keep: Path | None) -> None:
    """Play one case and show all of it."""
    result, told = play(ground, number, keep)
    print(f"{number}: {result.road}\n  {result.what}: {result.exactly}\n  {result.verdict}: {result.why}")
    for outcome in told.outcomes:
        print(f"  exit {outcome.code} after {outcome.seconds:.2f} s, {outcome.peak >> 20} MiB")
        print("  stdout:", outcome.stdout[-2000:], "\n  stderr:", outcome.stderr[-4000:])


if __name__ == "__main__":
    typer.run(main)
