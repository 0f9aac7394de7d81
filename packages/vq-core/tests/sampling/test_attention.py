import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.sampling.attention import AttentionKernel, attention_of, other_kernels


class Attends(nn.Module):
    """Attention of its input with itself."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(1, 2, 100, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_watching_names_the_kernel_and_alters_nothing(x: Tensor) -> None:
    module = Attends()
    expected = module(x)
    with attention_of([module]) as used:
        result = module(x)
    assert torch.equal(result, expected)
    assert used == {"flash"}


@torch.no_grad()
def test_another_kernel_is_the_same_function_and_rounds_otherwise(x: Tensor) -> None:
    module = Attends()
    with attention_of([module], ("math",)) as used:
        result = module(x)
    assert used == {"math"}
    scores = (x.double() @ x.double().transpose(-1, -2) / 16**0.5).softmax(-1) @ x.double()
    assert torch.allclose(result.double(), scores, atol=1e-6)
    assert not torch.equal(result, module(x))


@torch.no_grad()
def test_only_the_modules_named_are_touched_and_only_within_the_block(x: Tensor) -> None:
    module, other = Attends(), Attends()
    expected = other(x)
    with attention_of([module], ("math",)) as used:
        assert torch.equal(other(x), expected)
        assert torch.equal(F.scaled_dot_product_attention(x, x, x), expected)
    assert torch.equal(module(x), expected)
    assert used == set()


@torch.no_grad()
def test_what_fails_within_leaves_nothing_behind(x: Tensor) -> None:
    module = Attends()
    with attention_of([module], ("math",)), pytest.raises(RuntimeError, match="size"):
        module.forward = lambda x: x @ x[..., :3]  # type: ignore[method-assign]
        module(x)
    assert not torch.equal(F.scaled_dot_product_attention(x, x, x), torch.zeros_like(x))
    with attention_of([Attends()]) as used:
        F.scaled_dot_product_attention(x, x, x)
    assert used == set()


def test_on_the_cpu_the_other_kernel_is_the_plain_one() -> None:
    assert other_kernels("cpu", torch.float32, 16) == ("math",)
    assert other_kernels("cpu", torch.bfloat16, 128) == ("math",)


def test_where_no_other_kernel_rounds_otherwise_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_for_all(inputs: object, kernels: tuple[AttentionKernel, ...]) -> tuple[AttentionKernel, Tensor]:
        return (kernels[0] if kernels else "flash"), torch.zeros(1)

    monkeypatch.setattr("vq_core.sampling.attention._run", one_for_all)
    with pytest.raises(
        VqError, match="No attention kernel but flash runs on cpu in float32: leave the variant `floor`"
    ):
        other_kernels("cpu", torch.float32, 16)


@pytest.mark.gpu
@torch.no_grad()
def test_on_a_gpu_there_is_another_fused_kernel() -> None:
    kernels = other_kernels("cuda", torch.bfloat16, 128)
    assert kernels[0] in ("cudnn", "flash", "efficient")
    q, k, v = (torch.randn(1, 2, tokens, 128, device="cuda", dtype=torch.bfloat16) for tokens in (500, 257, 257))
    own = F.scaled_dot_product_attention(q, k, v)
    module = nn.Module()
    module.forward = lambda: F.scaled_dot_product_attention(q, k, v)  # type: ignore[method-assign]
    with attention_of([module]) as usual:
        module()
    with attention_of([module], kernels) as used:
        other = module()
    assert not used & usual
    assert torch.allclose(own.float(), other.float(), atol=0.05)
