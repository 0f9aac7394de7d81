"""A case in which the command is killed, at its k-th call of the file system or after a time, and run again."""

import os
import shutil
import signal

from campaign.classify import Judged, Verdict, judge_end, judge_output, judge_rest, listing
from campaign.file_events import watch
from campaign.inputs import files_below
from campaign.mutations import raw
from campaign.mutations.target import Target, exchange
from campaign.stage import Stage, Told

MANY = 400


def _killed(stage: Stage, again: bool) -> str:
    """Run the command and kill it; how."""
    call = stage.resuming if again else stage.call
    number = stage.chance.choice((signal.SIGKILL,) * 6 + (signal.SIGTERM, signal.SIGINT))
    if stage.chance.random() < 0.7:
        at = 1 + int(min(MANY, 1.05 * stage.baseline.events) * stage.chance.random())

        def reached(count: int) -> None:
            if count == at:
                os.killpg(0, number) if number == signal.SIGKILL else os.kill(os.getpid(), number)

        stage.run(call, watch(stage.folder, reached))
        return f"{number.name} at event {at}"
    after = stage.chance.random() * 1.1 * stage.baseline.seconds
    started = stage.start(call)
    if started.running_after(after):
        started.kill() if number == signal.SIGKILL else started.interrupt(number)
    stage.noted(started.ended(stage.limit_s))
    return f"{number.name} after {after:.2f} s"


def run(stage: Stage) -> Told:
    """Kill, sometimes twice, sometimes damage what was left, run again, judge."""
    before = listing(stage.folder)
    done = [_killed(stage, again=False)]
    if stage.chance.random() < 0.2:
        done.append(_killed(stage, again=True))
    interrupted = [outcome for outcome in stage.outcomes if "Traceback (most recent" in outcome.stderr]
    damaged = _damage(stage) if stage.chance.random() < 0.4 else None
    what = "killed, damaged, run again" if damaged else f"killed{' twice' if len(done) > 1 else ''}, run again"
    exactly = ", ".join([*done, *([damaged] if damaged else [])])
    scene = stage.scene(before)
    if interrupted and (judged := judge_end(scene, interrupted[0])):
        return stage.told(what, exactly, judged)
    complete = _complete(stage)
    outcome = stage.run(stage.resuming)
    judged = judge_end(scene, outcome)
    if judged is None and (outcome.code == 0 or complete):
        judged = judge_output(scene, outcome.stdout, None)
        judged = judged if judged.verdict.is_fault else None
    if judged is None and outcome.code != 0 and not damaged and not complete:
        judged = Judged(Verdict.LOST, f"cannot go on: {outcome.stderr.strip().splitlines()[-1][:200]}")
    if judged is None and (outcome.code == 0 or not damaged):
        judged = judge_rest(scene, 0)
    right = Judged(Verdict.HARMLESS) if outcome.code == 0 else Judged(Verdict.REFUSED, outcome.stderr.strip()[-200:])
    return stage.told(what, exactly, judged or right)


def _complete(stage: Stage) -> bool:
    """Whether the killed command had already given its output its name."""
    return stage.road.output is not None and (stage.folder / stage.road.output).exists()


def _damage(stage: Stage) -> str | None:
    """Damage what the killed command has left, if it has left anything; how."""
    partials = [path for path in stage.folder.glob("*.partial") if path.is_dir()]
    files = [file for partial in partials for file in files_below(partial)]
    if not files:
        return None
    path = stage.chance.choice(files)
    target = Target(path, partials[0], stage.chance)
    name = path.relative_to(stage.folder).as_posix()
    match stage.chance.randrange(6):
        case 0 | 1:
            return f"{name}: {raw.flip_bit(target) or 'nothing'}"
        case 2:
            other = target.sibling()
            if other is None:
                return f"{name}: {raw.append(target)}"
            exchange(path, other)
            return f"{name} swapped with {other.name}"
        case 3:
            path.unlink()
            path.mkdir()
            return f"{name}: a folder in its place"
        case 4:
            return f"{name}: truncated {raw.truncate(target) or 'nothing'}"
        case _:
            stranger = path.with_name(f"stranger{path.suffix}")
            shutil.copy(path, stranger)
            return f"{stranger.name} beside {name}"
