"""Degrees that cannot be are refused in one sentence, in every process."""

import pytest

from vq_core.errors import VqError
from vq_core.runtime.process import Process
from vq_infer.parallel.plan import ParallelPlan


def test_number_of_processes() -> None:
    assert ParallelPlan(ulysses=2, ring=2, guidance=True).world == 8
    assert ParallelPlan(guidance=True).shares == 1
    assert [ParallelPlan(ulysses=4, ring=2).share(tokens) for tokens in (8, 9, 16)] == [1, 2, 2]
    assert ParallelPlan().is_alone
    ParallelPlan(ulysses=2, guidance=True).check_launch(Process(3, 4, 3, 4))


@pytest.mark.parametrize(
    ("plan", "world", "sentence"),
    [
        (ParallelPlan(ulysses=4), 2, "--ulysses 4, --ring 1 share a video among 4 processes and there are 2: "),
        (ParallelPlan(guidance=True), 1, "and --cfg-parallel share a video among 2 processes and there are 1"),
        (ParallelPlan(), 4, "torchrun started 4 processes and each would make the whole video: .* --ulysses 4"),
        (ParallelPlan(ulysses=0), 1, "--ulysses 0 is not a number of processes"),
        (ParallelPlan(ring=-1), 1, "--ring -1 is not a number of processes"),
    ],
)
def test_another_number_of_processes(plan: ParallelPlan, world: int, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        plan.check_launch(Process(0, world, 0, world))


@pytest.mark.parametrize(
    ("plan", "tokens", "guided", "sentence"),
    [
        (ParallelPlan(ulysses=3), 12, True, "--ulysses 3 does not divide the model's 40 heads: use one of 2, 4, 5, 8,"),
        (ParallelPlan(ulysses=2, ring=2), 30, True, "30 tokens do not divide among --ulysses 2 times --ring 2"),
        (ParallelPlan(ring=8), 4, True, "the video has 4 tokens for 8 processes"),
        (ParallelPlan(guidance=True), 12, False, "--cfg-parallel needs guidance, which is off"),
    ],
)
def test_what_model_or_video_do_not_allow(plan: ParallelPlan, tokens: int, guided: bool, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        plan.check_video(heads=40, tokens=tokens, guided=guided)


def test_tokens_need_not_divide_for_one_kind() -> None:
    ParallelPlan(ulysses=4).check_video(heads=40, tokens=30, guided=False)
    ParallelPlan(ring=4, guidance=True).check_video(heads=40, tokens=30, guided=True)
