"""The calls of each transformer that a sampler's schedule leads to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vq_core.errors import VqError

BUCKETS = 8
"""Of the noise level sigma: each is an eighth of 0 … 1, so that the flow shift of the sampler is respected."""
TRAIN_TIMESTEPS = 1000  # the transformer is conditioned on the timestep 1000 · sigma


@dataclass(frozen=True)
class ScheduledStep:
    """A denoising step: the transformer it calls, and the timestep (1000 · sigma) it calls it with."""

    component: str
    timestep: float


@dataclass(frozen=True)
class Call:
    """One call of a transformer.

    Attributes:
        step: of the sampler, over all transformers.
        branch: index in `BRANCHES`.
        timestep: 1000 · sigma.
        bucket: of sigma.
    """

    step: int
    branch: int
    timestep: float
    bucket: int


def schedule_of(
    scheduler: Any, steps: int, transformers: Sequence[str], boundary_ratio: float | None
) -> list[ScheduledStep]:
    """What diffusers' `scheduler` does in `steps` steps; below `boundary_ratio` the second transformer is called.

    Raises:
        VqError: there are so many steps that the first two have one timestep: diffusers would begin at the second.
    """
    scheduler.set_timesteps(steps)
    timesteps = [float(timestep) for timestep in scheduler.timesteps]
    if timesteps.count(timesteps[0]) > 1:
        raise VqError(
            f"{steps} steps are more than the model's {type(scheduler).__name__} tells apart with its shift: "
            "lower --steps."
        )
    second_below = (boundary_ratio or 0.0) * scheduler.config.num_train_timesteps
    return [ScheduledStep(transformers[int(timestep < second_below)], timestep) for timestep in timesteps]


def bucket_of(sigma: float) -> int:
    """Bucket of a noise level in 0 … 1; bucket b holds b/8 ≤ sigma < (b + 1)/8, and the last one sigma = 1 too."""
    return min(int(sigma * BUCKETS), BUCKETS - 1)


def calls_of(schedule: Sequence[ScheduledStep], component: str, *, guided: bool) -> tuple[Call, ...]:
    """The calls of `component` in one video, in order.

    A pipeline calls a transformer for the conditional branch and then, under guidance, for the unconditional one, at
    every timestep. (Diffusers names the branch in `cache_context`, but hands the name only to its own caching hooks,
    and in another form in every release.)

    Raises:
        VqError: the schedule never reaches the component.
    """
    calls = tuple(
        Call(step, branch, scheduled.timestep, bucket_of(scheduled.timestep / TRAIN_TIMESTEPS))
        for step, scheduled in enumerate(schedule)
        if scheduled.component == component
        for branch in range(2 if guided else 1)
    )
    if not calls:
        raise VqError(f"{component} is never called: {len(schedule)} steps skip its noise levels, so raise --steps.")
    return calls
