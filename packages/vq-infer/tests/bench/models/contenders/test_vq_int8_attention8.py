"""The contender `vq_int8_attention8`, by the contract of all."""

from collections.abc import Callable

import pytest
import torch

from vq_infer.bench.models.contenders import Contender
from vq_infer.bench.models.contenders import vq_int8_attention8 as contender


def test_is_not_for_the_cpu() -> None:
    assert contender.missing(torch.device("cpu"))


@pytest.mark.gpu
def test_runs_a_step(runs_a_step_on_a_gpu: Callable[[Contender], None]) -> None:
    runs_a_step_on_a_gpu(contender)
