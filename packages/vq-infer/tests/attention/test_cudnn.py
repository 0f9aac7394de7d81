from collections.abc import Callable

import pytest
import torch

from vq_infer.attention import cudnn
from vq_infer.attention_choice import relative_error


def test_it_needs_a_torch_with_cudnn(
    pretend_gpu: Callable[[int, int], torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    assert cudnn.unavailable(pretend_gpu(9, 0)) == "this PyTorch was built without cuDNN"


@pytest.mark.gpu
def test_it_is_as_exact_as_it_says() -> None:
    q, k, v = (torch.randn(1, tokens, 2, 128, device="cuda", dtype=torch.bfloat16) for tokens in (300, 700, 700))
    assert relative_error(cudnn, q, k, v) < 2 * cudnn.ERROR
