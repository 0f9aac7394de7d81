"""What follows from how videos are sampled."""

import pytest

from vq_core.sampling.settings import Sampling


@pytest.mark.parametrize(("scale", "scale_2"), [(5.0, None), (5.0, 1.0), (1.0, 3.0), (1.0, None)])
def test_the_first_scale_decides_for_both_experts(scale: float, scale_2: float | None) -> None:
    assert Sampling(guidance_scale=scale, guidance_scale_2=scale_2).guided is (scale > 1)
