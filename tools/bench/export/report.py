"""The page of `make bench-export`, as Markdown for people and JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pages import outcome, table, verdict_cell, write_page
from vq_core.numerics.scheme import W8A8

NAME = "export_bench"
MEANING = {
    "copy": "`cp -r`",
    "copy_to_disk": "`cp -r` and `sync`",
    "read": "reading alone",
    "digest": "SHA-256 alone, of what is written",
    "write_and_flush": "writing and flushing alone",
    "arithmetic": "the arithmetic alone, in memory",
    "convert": "**`vq-export lightx2v --model`**",
    "convert_plainly": "load everything, same arithmetic, save",
}
LIGHTX2V_S = {"int8": 108.0, "fp8": 131.0}
"""LightX2V's own converter on such a checkpoint of 30 blocks, 2 CPU cores: measured once, not by this bench."""
NAMES = tuple(scheme.name for scheme in W8A8)
PARTS = ("read", "digest", "write_and_flush", "arithmetic")
"""The parts that every conversion needs."""
TIMES_FASTER, TIMES_SLOWER, MEMORY_GIB = 10, 1.5, 1.5


@dataclass(frozen=True)
class Run:
    """How it was measured; `load` is the machine's load average over the minute before, 0 if it was idle."""

    command: str
    date: str
    torch: str
    safetensors: str
    cores: int
    load: float
    bytes: int
    blocks: int
    of_blocks: int
    repeats: int


@dataclass(frozen=True)
class Line:
    """One work: the median and all of its seconds, the fewest CPU seconds, and the highest of its peaks above imports.

    CPU seconds are those of all threads, and of the system for them; a busy machine changes them less than seconds.
    """

    work: str
    scheme: str
    seconds: float
    runs: list[float]
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Demand:
    """A requirement: what it is about, the limit, and the figure that must not be above it."""

    what: str
    asked: float
    measured: float

    @property
    def met(self) -> bool:
        return self.measured <= self.asked

    @property
    def text(self) -> str:
        return f"{self.what}: {self.measured:.3g} of {self.asked:.3g}"


def demands(run: Run, lines: Sequence[Line]) -> list[Demand]:
    """The requirements of the conversion, scheme by scheme."""
    by_key = {(line.work, line.scheme): line for line in lines}
    judged = []
    for scheme in NAMES:
        ours, name = by_key["convert", scheme], scheme.upper()
        longer = _longer(by_key, scheme)
        tenth = LIGHTX2V_S[scheme] * run.blocks / run.of_blocks / TIMES_FASTER
        judged += [
            Demand(f"{name}: a tenth of the time of LightX2V's converter, s", tenth, ours.seconds),
            Demand(f"{name}: times the longer of `cp` and the arithmetic", TIMES_SLOWER, ours.seconds / longer),
            Demand(f"{name}: memory above imports, GiB", MEMORY_GIB, ours.peak_bytes / 2**30),
        ]
    return judged


def floor(run: Run, lines: Sequence[Line]) -> str:
    """The time of all parts of a conversion, scheme by scheme, beside the limit for the whole."""
    by_key = {(line.work, line.scheme): line for line in lines}
    rows = []
    for scheme in NAMES:
        parts = [by_key[part, scheme if part == "arithmetic" else ""].cpu_seconds for part in PARTS]
        least, longer = sum(parts) / run.cores, _longer(by_key, scheme)
        ours = by_key["convert", scheme].cpu_seconds
        figures = (*parts, sum(parts), ours, least, TIMES_SLOWER * longer)
        rows.append((scheme.upper(), *(f"{figure:.2f}" for figure in figures)))
    head = ("CPU s", "reading", "SHA-256", "writing", "arithmetic", "together", "ours", "on all cores, s", "limit, s")
    return table(head, rows)


def beside_a_copy_on_the_disk(lines: Sequence[Line]) -> str:
    """How many times as long as the longer of `cp` with `sync` and the arithmetic, scheme by scheme."""
    by_key = {(line.work, line.scheme): line for line in lines}
    ratios = {scheme: by_key["convert", scheme].seconds / _longer(by_key, scheme, "copy_to_disk") for scheme in NAMES}
    return " and ".join(f"{ratio:.2f} ({scheme.upper()})" for scheme, ratio in ratios.items())


def _longer(by_key: Mapping[tuple[str, str], Line], scheme: str, copy: str = "copy") -> float:
    return max(by_key[copy, ""].seconds, by_key["arithmetic", scheme].seconds)


def markdown(run: Run, lines: Sequence[Line], judged: Sequence[Demand]) -> str:
    """The page."""
    rows = (
        (MEANING[it.work], it.scheme.upper(), f"{it.seconds:.2f}", _spread(it), f"{it.cpu_seconds:.2f}", _mib(it))
        for it in lines
    )
    verdicts = ((it.what, f"{it.asked:.3g}", f"{it.measured:.3g}", verdict_cell(it)) for it in judged)
    return f"""\
# Conversion: seconds and memory

Written by `{run.command}` on {run.date}: torch {run.torch}, safetensors {run.safetensors}, {run.cores} CPU cores;
the load average before was {run.load}. A random checkpoint of Wan2.1-1.3B's shape, {run.blocks} blocks,
{run.bytes / 1e9:.2f} GB of bfloat16 in the page cache. The tasks take turns, {run.repeats} runs each, every run
in its own process. The same figures, run by run, are in [{NAME}.json]({NAME}.json).

{outcome(judged)}

{table(("", "scheme", "median s", "all runs, s", "CPU s", "MiB above imports"), rows)}

{table(("requirement", "at most", "measured", ""), verdicts)}

The parts of a conversion that cannot be avoided, each measured alone, in CPU seconds of all threads and of the system
for them. "On all cores" is the time of all parts if they were spread perfectly over the cores and never waited for the
disk. If it exceeds what is required, this machine cannot reach the requirement.

{floor(run, lines)}

`cp` leaves what it wrote to be flushed later and reads nothing but the page cache; our conversion flushes every file
and computes its SHA-256. The plain script does neither. Beside the longer of the arithmetic and a copy flushed to disk
(`cp -r` and `sync`) ours takes {beside_a_copy_on_the_disk(lines)} times as long.

LightX2V's own converter was measured once on 2 CPU cores ({LIGHTX2V_S["int8"]:.0f} s INT8,
{LIGHTX2V_S["fp8"]:.0f} s FP8, 5.0 GB resident); the figure means nothing on another machine.
"""


def write(folder: Path, run: Run, lines: Sequence[Line], judged: Sequence[Demand]) -> Path:
    """Write both files to `folder` and return the Markdown's path."""
    content = {
        **asdict(run),
        "lines": [asdict(line) for line in lines],
        "demands": [{**asdict(demand), "met": demand.met} for demand in judged],
    }
    return write_page(folder, NAME, markdown(run, lines, judged), content)


def _spread(line: Line) -> str:
    return f"{min(line.runs):.2f} to {max(line.runs):.2f}"


def _mib(line: Line) -> str:
    return f"{line.peak_bytes / 2**20:.0f}"
