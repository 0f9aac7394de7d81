"""A case in which the same command runs twice at the same time on one output."""

from campaign.child import Outcome
from campaign.classify import Judged, Verdict, judge_end, judge_output, judge_rest
from campaign.stage import Stage, Told


def run(stage: Stage) -> Told:
    """Start both, the second a little later; at least one has to end right, and the other right or with a sentence."""
    scene = stage.scene()
    later = stage.chance.random() * stage.baseline.seconds * stage.chance.choice((0.0, 0.5, 1.2))
    resumed = stage.chance.random() < 0.3
    first = stage.start(stage.call)
    first.running_after(later)
    second = stage.start(stage.resuming if resumed else stage.call)
    outcomes = [stage.noted(it.ended(stage.limit_s)) for it in (first, second)]
    exactly = f"the second after {later:.2f} s{', with --resume' if resumed else ''}"
    ends = [judged for outcome in outcomes if (judged := judge_end(scene, outcome))]
    if ends:
        return stage.told("two at once", exactly, ends[0])
    if not any(outcome.code == 0 for outcome in outcomes):
        sentences = " / ".join(outcome.stderr.strip().splitlines()[-1][:90] for outcome in outcomes)
        return stage.told("two at once", exactly, Judged(Verdict.LOST, f"both end without a result: {sentences}"))
    judged = judge_output(scene, _stdout_of_winner(outcomes), None)
    if not judged.verdict.is_fault:
        judged = judge_rest(scene, 0) or judged
    return stage.told("two at once", exactly, judged)


def _stdout_of_winner(outcomes: list[Outcome]) -> str:
    return next(outcome.stdout for outcome in outcomes if outcome.code == 0)
