from collections.abc import Callable

import pytest
import torch

from vq_core.errors import VqError
from vq_infer.attention import attention_names, availability, load_attention
from vq_infer.attention_choice import select_attention

CPU = torch.device("cpu")


def test_names_are_those_of_the_files_and_auto() -> None:
    assert attention_names() == ["auto", "cudnn", "flash3", "flash4", "fp8", "sage", "sdpa"]


@pytest.mark.parametrize("name", attention_names()[1:])
def test_every_attention_fulfils_the_protocol(name: str) -> None:
    attention = load_attention(name)
    assert attention.NAME
    assert 0 < attention.ERROR < 0.1
    reason = attention.unavailable(CPU)
    assert reason is None or not reason.endswith(".")


def test_on_the_cpu_torch_computes() -> None:
    assert [name for name, reason in availability(CPU).items() if reason is None] == ["fp8", "sdpa"]


def test_an_old_gpu_has_torch_alone(pretend_gpu: Callable[[int, int], torch.device]) -> None:
    device = pretend_gpu(7, 5)
    assert [name for name, reason in availability(device).items() if reason is None] == ["sdpa"]


def test_what_cannot_run_is_refused_with_what_can() -> None:
    with pytest.raises(
        VqError, match=r"--attention cudnn: cuDNN needs a CUDA device; on cpu there are fp8, sdpa and auto"
    ):
        select_attention("cudnn", CPU)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(
        VqError, match=r"`flash9` is not one of the attention \(cudnn, flash3, flash4, fp8, sage, sdpa\)"
    ):
        select_attention("flash9", CPU)


def test_a_tolerance_that_nothing_meets_is_refused() -> None:
    with pytest.raises(VqError, match="none here has an error of at most 1e-05: allow 0.0025 or more"):
        select_attention("auto", CPU, tolerance=1e-5)


def test_auto_leaves_8_bits_to_who_asks_for_them() -> None:
    q = torch.randn(1, 5, 2, 16)
    assert torch.equal(select_attention("auto", CPU).attend(q, q, q), load_attention("sdpa").attend(q, q, q))
