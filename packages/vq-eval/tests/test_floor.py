import torch
import torch.nn.functional as F

from vq_eval.floor import other_attention


def test_the_other_kernel_gives_the_same_but_for_rounding() -> None:
    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(0))
    usual = F.scaled_dot_product_attention(q, k, v)
    with other_attention("cpu"):
        other = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(other, usual)
    assert not torch.equal(other, usual)
    assert torch.equal(F.scaled_dot_product_attention(q, k, v), usual)
