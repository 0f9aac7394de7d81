import pytest
import torch
from vq_infer.fused.gated_sum import gated_sum


@pytest.mark.parametrize("tokens", [1, 5])
def test_rounds_once(tokens: int) -> None:
    x, update, gate = torch.randn(2, 5, 64).bfloat16(), torch.randn(2, 5, 64).bfloat16(), torch.randn(2, tokens, 64)
    exact = x.double() + update.double() * gate.double()
    torch.testing.assert_close(gated_sum(x, update, gate), exact.bfloat16(), rtol=2**-7, atol=1e-6)
