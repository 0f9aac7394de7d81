"""The oracle: what became of a command that something was done to."""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from campaign.baseline import Baseline, shape_of
from campaign.child import Outcome
from campaign.outputs import compared, leaves_of, not_finite
from campaign.roads import Road

MAX_BEYOND = 1 << 29
"""Bytes beyond the run without harm: a command alone, with its libraries, then has about 1 GiB."""
MAX_SENTENCE = 2000
RESUME_FILE = ".resume.json"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PROGRESS = re.compile(r": [\d.,/]+ .*\d .*/s, .* left$")
OUT_OF_MEMORY = re.compile(r"\bMemoryError\b|can't allocate memory|Cannot allocate memory")
REFUSED_CODES = (1, 2)


class Verdict(Enum):
    """How a case ended; only the first three are right."""

    REFUSED = "refused"
    HARMLESS = "harmless"
    TAKEN = "taken"
    WRONG = "silently wrong"
    TRACEBACK = "traceback"
    HANG = "hang"
    MEMORY = "over 1 GiB"
    SIGNAL = "signal"
    LOST = "lost"
    LEFTOVERS = "leftovers"
    UNCLEAN = "unclean sentence"

    @property
    def is_fault(self) -> bool:
        """Whether this must not happen."""
        return self not in (Verdict.REFUSED, Verdict.HARMLESS, Verdict.TAKEN)


@dataclass(frozen=True)
class Judged:
    """A verdict and, in a few words, its reason."""

    verdict: Verdict
    why: str = ""


Listing = dict[str, tuple[int, int, int]]
"""By path in the working directory: mode, size, and time of the last change."""


def listing(folder: Path) -> Listing:
    """Everything in `folder`, links not followed, folders that may not be entered left out."""
    found: Listing = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue
        changed = 0 if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        found[path.relative_to(folder).as_posix()] = (status.st_mode, status.st_size if changed else 0, changed)
    return found


@dataclass(frozen=True)
class Scene:
    """What a verdict is given on.

    Attributes:
        road: the command line.
        baseline: the run without harm.
        folder: the working directory.
        before: its content before the command ran.
        output: where the command writes, if not where `road` says.
        cache: a folder besides that the command was told to fill.
        speechless: stderr could not be written.
        bucket: where inputs and output lay, as a prefix of what the command was given.
    """

    road: Road
    baseline: Baseline
    folder: Path
    before: Listing
    output: str | None = None
    cache: str | None = None
    speechless: bool = False
    bucket: str = ""

    @property
    def written(self) -> str | None:
        """The name of the output."""
        return self.output or self.road.output


def judge_end(scene: Scene, outcome: Outcome) -> Judged | None:
    """The verdicts that need no look at what was made: hangs, memory, signals, tracebacks, bad sentences."""
    said = outcome.stderr + outcome.stdout
    if outcome.timed_out:
        return Judged(Verdict.HANG, f"{outcome.seconds:.0f} s")
    if outcome.peak > scene.baseline.peak + MAX_BEYOND:
        return Judged(Verdict.MEMORY, f"{(outcome.peak - scene.baseline.peak) / 2**30:.1f} GiB more than without harm")
    if OUT_OF_MEMORY.search(said) and "Traceback" in said:
        return Judged(Verdict.MEMORY, f"more than there is: {origin_of(said)}")
    if "Traceback (most recent call last)" in said or outcome.code == 120:
        return Judged(Verdict.TRACEBACK, origin_of(said))
    if outcome.code < 0:
        return Judged(Verdict.SIGNAL, f"signal {-outcome.code}")
    if outcome.strays:
        return Judged(Verdict.LEFTOVERS, "a process that goes on")
    if found := CONTROL.search(outcome.stderr + outcome.stdout):
        return Judged(Verdict.UNCLEAN, f"prints {found[0]!r}")
    if outcome.code != 0 and not scene.speechless:
        return _judge_sentence(scene, outcome)
    return None


def _judge_sentence(scene: Scene, outcome: Outcome) -> Judged | None:
    if outcome.code not in REFUSED_CODES:
        return Judged(Verdict.UNCLEAN, f"exit code {outcome.code}")
    lines = sentences_of(scene.baseline, outcome)
    if lines and lines[0].startswith("Usage: "):
        return None
    if len(lines) != 1:
        return Judged(Verdict.UNCLEAN, f"{len(lines)} lines: {' / '.join(line[:80] for line in lines[:3])}")
    if len(lines[0]) > MAX_SENTENCE:
        return Judged(Verdict.UNCLEAN, f"a sentence of {len(lines[0])} characters: {lines[0][:60]}…")
    return None


def sentences_of(baseline: Baseline, outcome: Outcome) -> list[str]:
    """What was said on stderr beyond what an unharmed run says."""
    lines = [line for line in outcome.stderr.splitlines() if line.strip() and not PROGRESS.search(line)]
    return [line for line in lines if shape_of(line) not in baseline.lines]


def origin_of(said: str) -> str:
    """The last line of a traceback, and the last place of ours in it."""
    ours = [
        place
        for place in re.findall(r'File "[^"]*/(vq_\w+/[^"]*)", line (\d+)', said)
        if "/vq_core/cli/" not in place[0]
    ]
    where = f" in {ours[-1][0]}:{ours[-1][1]}" if ours else ""
    last = next(
        (
            line
            for line in reversed(said.splitlines())
            if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt|Warning|Bomb\w*)(:|$)", line)
        ),
        "",
    )
    if not last and "Exception ignored" in said:
        last = "Exception ignored while flushing stdout"
    return f"{last[:120]}{where}"


def judge_rest(scene: Scene, code: int) -> Judged | None:
    """What was lost, or is left beside the output."""
    after = listing(scene.folder)
    changed = [name for name, entry in scene.before.items() if not _may_change(name) and after.get(name) != entry]
    if changed:
        return Judged(Verdict.LOST, f"{changed[0]} was changed or removed")
    new = [name for name in after if name not in scene.before and not _is_allowed(scene, name, code, after)]
    if new:
        return Judged(Verdict.LEFTOVERS, ", ".join(sorted(new, key=len)[:3]))
    return None


def _may_change(name: str) -> bool:
    return name.startswith((".home", ".tmp", ".cache"))


def _is_allowed(scene: Scene, name: str, code: int, after: Listing) -> bool:
    top, _, rest = name.partition("/")
    if top == ".home":
        return rest.startswith(".cache") or name in scene.before
    if top == scene.cache:
        return True
    if top == ".cache":
        return not name.endswith((".part", ".tmp"))
    output = scene.written
    allowed = {*scene.baseline.entries, (output or "").split("/")[0]} if code in (0, 1) else set()
    if top in allowed:
        return not Path(name).name.startswith(".")
    if code != 0 and scene.road.resumable and output and top == f"{output}.partial":
        return f"{top}/{RESUME_FILE}" in after
    return code == 1 and output is not None and top == f"{output}.unverified"


def judge_output(scene: Scene, stdout: str, excuse: str | None) -> Judged:
    """Whether what a command made, which says that all is well, is right.

    `excuse` is why another content is right: the user's own input is another one, and a strict reader accepts it; None
    where nothing excuses.
    """
    made = leaves_of(scene.folder, scene.written, stdout)
    if scene.bucket:
        made = {name: value.replace(scene.bucket, "") for name, value in made.items()}
    if scene.output and scene.road.output:
        made = {scene.road.output + name.removeprefix(scene.output): value for name, value in made.items()}
    differing = compared(made, scene.baseline.right, set(scene.baseline.varying))
    if not differing:
        return Judged(Verdict.HARMLESS)
    if excuse is None:
        return Judged(Verdict.WRONG, f"{len(differing)} values differ: {', '.join(differing[:3])}"[:200])
    odd = not_finite(scene.folder, scene.written, stdout)
    if odd and not set(odd) <= _odd_already(scene.baseline):
        return Judged(Verdict.WRONG, f"not finite: {', '.join(odd[:3])}"[:200])
    return Judged(Verdict.TAKEN, excuse)


def _odd_already(baseline: Baseline) -> set[str]:
    return {name for name, value in baseline.right.items() if value in ("NaN", "Infinity", "-Infinity")}
