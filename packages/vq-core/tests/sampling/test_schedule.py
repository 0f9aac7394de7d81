import pytest
from diffusers import UniPCMultistepScheduler

from vq_core.errors import VqError
from vq_core.sampling.schedule import Call, ScheduledStep, bucket_of, calls_of, schedule_of

SCHEDULE = [
    ScheduledStep("transformer", 999.0),
    ScheduledStep("transformer", 900.0),
    ScheduledStep("transformer_2", 400.0),
]


@pytest.mark.parametrize(
    ("sigma", "bucket"), [(0.0, 0), (0.124, 0), (0.125, 1), (0.5, 4), (0.874, 6), (0.875, 7), (0.999, 7), (1.0, 7)]
)
def test_buckets_divide_sigma_evenly(sigma: float, bucket: int) -> None:
    assert bucket_of(sigma) == bucket


def test_a_transformer_is_called_twice_a_step_under_guidance() -> None:
    assert calls_of(SCHEDULE, "transformer", guided=True) == (
        Call(0, 0, 999.0, 7),
        Call(0, 1, 999.0, 7),
        Call(1, 0, 900.0, 7),
        Call(1, 1, 900.0, 7),
    )


def test_steps_are_counted_over_all_transformers() -> None:
    assert calls_of(SCHEDULE, "transformer_2", guided=False) == (Call(2, 0, 400.0, 3),)


def test_a_transformer_that_is_never_reached_is_refused() -> None:
    with pytest.raises(VqError, match=r"transformer_2 is never called: 2 steps skip .* raise --steps"):
        calls_of(SCHEDULE[:2], "transformer_2", guided=True)


@pytest.mark.parametrize(("shift", "most"), [(3.0, 333), (8.0, 125)])
def test_refuses_steps_that_the_scheduler_does_not_tell_apart(shift: float, most: int) -> None:
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    schedule = schedule_of(scheduler, most, ("transformer", "transformer_2"), 0.9)
    assert [step.timestep for step in schedule] == scheduler.timesteps.tolist()
    assert [step.component == "transformer_2" for step in schedule] == [step.timestep < 900 for step in schedule]
    with pytest.raises(VqError, match=f"{most + 1} steps are more than the model's UniPCMulti"):
        schedule_of(scheduler, most + 1, ("transformer",), None)
