from collections.abc import Callable

import pytest
import torch

from vq_core.errors import VqError
from vq_infer.attention import fp8
from vq_infer.attention_choice import relative_error
from vq_infer.eight_bit import reference


def test_it_needs_a_triton_with_gluon(
    pretend_gpu: Callable[[int, int], torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = pretend_gpu(9, 0)
    monkeypatch.setattr(fp8, "GLUON", "triton_that_is_not_here.gluon")
    assert fp8.unavailable(device) == "8-bit attention needs Triton 3.6 or newer"
    monkeypatch.setattr(fp8, "GLUON", "json.decoder")
    assert fp8.unavailable(device) is None


def test_on_the_cpu_it_is_the_reference() -> None:
    q, k = torch.randn(2, 9, 3, 16), torch.randn(2, 5, 3, 16)
    assert torch.equal(fp8.attend(q, k, k), reference.attend(q, k, k))


def test_wide_heads_are_refused() -> None:
    wide = torch.randn(1, 2, 1, 192)
    with pytest.raises(VqError, match="heads have 192 channels"):
        fp8.attend(wide, wide, wide)


def test_it_is_one_operation_to_compilers() -> None:
    q = torch.randn(1, 9, 2, 16, dtype=torch.bfloat16)
    torch.library.opcheck(fp8._attend, (q, q, q), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.gpu
def test_it_is_as_exact_as_it_says_on_strided_inputs() -> None:
    fused = torch.randn(2, 3000, 3, 4, 128, device="cuda", dtype=torch.bfloat16)
    q, k, v = fused.unbind(2)
    assert relative_error(fp8, q, k, v) < fp8.ERROR
