"""Where one case plays: its road, its working directory with copies of the inputs, and its chance."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

from campaign.baseline import Baseline
from campaign.child import LIMIT_S, Call, Outcome, Prepare, Started, run
from campaign.classify import Judged, Listing, Scene, Verdict, judge_end, judge_output, judge_rest, listing
from campaign.pantry import ALL, copy_inputs, new_folder
from campaign.roads import Road


@dataclass(frozen=True)
class Told:
    """A case that has ended: what was done, in general and exactly, and what became of it."""

    what: str
    exactly: str
    judged: Judged
    outcomes: tuple[Outcome, ...] = ()


@dataclass
class Stage:
    """One case.

    Attributes:
        road, baseline: the command line, and how it ends without harm.
        inputs: the folder of all inputs, not to be changed.
        place: a folder of the case's own.
        chance: decides everything.
        s3: address of an S3 server, if one runs.
        limit_s: seconds after which a command hangs.
        outcomes: of the commands that have run.
    """

    road: Road
    baseline: Baseline
    inputs: Path
    place: Path
    chance: Random
    s3: str | None = None
    limit_s: float = LIMIT_S
    outcomes: list[Outcome] = field(default_factory=list)

    @cached_property
    def folder(self) -> Path:
        """The working directory, with copies of what the command reads; made when it is first asked for."""
        folder = new_folder(self.place / "here")
        copy_inputs(self.inputs, self.reads, folder)
        return folder

    @property
    def reads(self) -> list[str]:
        """Names of the inputs."""
        return self.road.reads(ALL)

    @property
    def call(self) -> Call:
        """The command as it is, in the working directory."""
        return Call(self.road.line, self.folder)

    @property
    def resuming(self) -> Call:
        """The same command with `--resume`, where it has that."""
        return Call(f"{self.road.line} --resume" if self.road.resumable else self.road.line, self.folder)

    def run(self, call: Call, prepare: Prepare | None = None) -> Outcome:
        """Run a command to its end."""
        return self.noted(run(call, self.limit_s, prepare))

    def start(self, call: Call, prepare: Prepare | None = None) -> Started:
        """Start a command."""
        return Started(call, prepare)

    def noted(self, outcome: Outcome) -> Outcome:
        """Keep an outcome for whoever looks into the case."""
        self.outcomes.append(outcome)
        return outcome

    def scene(self, before: Listing | None = None, **changes: object) -> Scene:
        """What a verdict is given on."""
        there = listing(self.folder) if before is None else before
        return Scene(self.road, self.baseline, self.folder, there, **changes)  # type: ignore[arg-type]

    def told(self, what: str, exactly: str, judged: Judged) -> Told:
        """The end of the case."""
        return Told(what, exactly, judged, tuple(self.outcomes))


def judge(scene: Scene, outcome: Outcome, excuse: str | None) -> Judged:
    """The verdict on a command that ran once; `excuse` as for `judge_output`."""
    judged = judge_end(scene, outcome)
    if judged is None and outcome.code == 0:
        judged = judge_output(scene, outcome.stdout, excuse)
        if judged.verdict is Verdict.WRONG:
            return judged
    rest = judge_rest(scene, outcome.code)
    if judged is not None and judged.verdict.is_fault:
        return judged
    return rest or judged or Judged(Verdict.REFUSED, (outcome.stderr.strip().splitlines() or [""])[-1][:200])
