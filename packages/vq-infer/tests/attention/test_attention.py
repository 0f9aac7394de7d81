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


@pytest.mark.parametrize(
    ("name", "capability", "reason"),
    [
        ("cudnn", None, "cuDNN needs a CUDA device"),
        ("cudnn", (7, 5), "cuDNN's attention needs a GPU of compute capability 8.0"),
        ("flash3", (8, 9), "FlashAttention-3 needs a Hopper GPU"),
        ("flash3", (10, 0), "FlashAttention-3 needs a Hopper GPU"),
        ("flash4", None, "FlashAttention-4 needs a Hopper GPU or a newer one"),
        ("flash4", (8, 9), "FlashAttention-4 needs a Hopper GPU or a newer one"),
        ("fp8", None, None),
        ("fp8", (8, 0), "8-bit attention needs a Hopper GPU (H100, H200), or the CPU, where it is slow"),
        ("fp8", (8, 9), "8-bit attention needs a Hopper GPU (H100, H200), or the CPU, where it is slow"),
        ("fp8", (10, 0), "8-bit attention needs a Hopper GPU (H100, H200), or the CPU, where it is slow"),
        ("sage", None, "SageAttention needs a GPU of compute capability 8.0"),
        ("sage", (7, 5), "SageAttention needs a GPU of compute capability 8.0"),
        ("sdpa", None, None),
        ("sdpa", (7, 5), None),
    ],
)
def test_what_each_needs(
    name: str, capability: tuple[int, int] | None, reason: str | None, pretend_gpu: Callable[[int, int], torch.device]
) -> None:
    assert availability(pretend_gpu(*capability) if capability else CPU)[name] == reason


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cudnn", "--attention cudnn: cuDNN needs a CUDA device: choose fp8, sdpa or auto, which run on cpu"),
        ("flash9", r"`flash9` is not one of the attention \(cudnn, flash3, flash4, fp8, sage, sdpa\)"),
    ],
)
def test_what_cannot_run_is_refused_with_what_can(name: str, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        select_attention(name, CPU)


def test_a_tolerance_that_nothing_meets_is_refused() -> None:
    with pytest.raises(
        VqError, match="--attention-tolerance 1e-05 is below every attention's error: give 0.0025 or more"
    ):
        select_attention("auto", CPU, tolerance=1e-5)


def test_auto_does_not_take_8_bits_by_itself() -> None:
    q = torch.randn(1, 5, 2, 16)
    assert torch.equal(select_attention("auto", CPU).attend(q, q, q), load_attention("sdpa").attend(q, q, q))
