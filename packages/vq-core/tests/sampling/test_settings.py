"""What follows from how videos are sampled."""

import pytest

from vq_core.errors import VqError
from vq_core.sampling.settings import Sampling


@pytest.mark.parametrize(("scale", "scale_2"), [(5.0, None), (5.0, 1.0), (1.0, 3.0), (1.0, None)])
def test_the_first_scale_decides_for_both_experts(scale: float, scale_2: float | None) -> None:
    assert Sampling(guidance_scale=scale, guidance_scale_2=scale_2).guided is (scale > 1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 0),
        ("height", -16),
        ("width", 0),
        ("num_frames", 0),
        ("fps", 0),
        ("guidance_scale", float("inf")),
        ("guidance_scale_2", float("nan")),
        ("seed", 2**64),
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting: str, value: float) -> None:
    with pytest.raises(VqError, match=f"^{setting} is {value}: give a "):
        Sampling(**{setting: value})  # type: ignore[arg-type]


def test_prompts_have_consecutive_seeds_within_64_bits() -> None:
    assert list(Sampling(seed=2**64 - 3).seeds(3)) == [2**64 - 3, 2**64 - 2, 2**64 - 1]
    with pytest.raises(VqError, match="the last of 3 prompts would have 18446744073709551616: give a whole"):
        Sampling(seed=2**64 - 2).seeds(3)
