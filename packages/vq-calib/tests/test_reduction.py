import logging

import pytest
import torch

import vq_calib.reduction
from vq_calib.reduction import can_compile, compiled_reduction, eager_reduction, reduction_for


def _inputs(tokens: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(tokens, channels, generator=generator) * torch.linspace(0.1, 30, channels)


@pytest.mark.parametrize("chunk_elements", [2**23, 64, 1])
def test_eager_gives_every_statistic_of_the_input(chunk_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vq_calib.reduction, "CHUNK_ELEMENTS", chunk_elements)
    x = _inputs(100, 8)
    exact = x.double()
    reduced = eager_reduction()(x)
    assert sorted(reduced) == ["abs_sum", "absmax", "square_sum", "sum"]
    assert torch.equal(reduced["absmax"], x.abs().amax(0))
    torch.testing.assert_close(reduced["abs_sum"].double(), exact.abs().sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(reduced["square_sum"].double(), exact.square().sum(0), rtol=1e-6, atol=0)
    assert torch.all((reduced["sum"].double() - exact.sum(0)).abs() <= 1e-6 * exact.abs().sum(0))


def test_the_cpu_is_eager() -> None:
    assert not can_compile("cpu")
    assert reduction_for("cpu")[0] == "eager"


def test_cuda_without_a_compiler_is_eager_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vq_calib.reduction, "can_compile", lambda device: False)
    with caplog.at_level(logging.WARNING):
        assert reduction_for("cuda")[0] == "eager"
    assert "install Triton" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_compiled_equals_eager_on_cuda(dtype: torch.dtype) -> None:
    compiled, eager = compiled_reduction(), eager_reduction()
    for tokens, channels in ((4096, 5120), (4096, 13824), (512, 5120), (257, 1280), (1, 64), (4095, 96)):
        x = _inputs(tokens, channels).to("cuda", dtype)
        fused, exact, size = compiled(x), x.double(), x.double().abs().sum(0)
        assert torch.equal(fused["absmax"], eager(x)["absmax"])
        for name, reference in eager(x).items():
            tolerance = 1e-6 * size if name == "sum" else 1e-6 * reference.double()
            assert torch.all((fused[name].double() - reference.double()).abs() <= 2 * tolerance), name
        assert torch.all((fused["sum"].double() - exact.sum(0)).abs() <= 1e-6 * size)
        assert all(torch.equal(again, fused[name]) for name, again in compiled(x).items())


@pytest.mark.gpu
def test_more_shapes_than_torch_compile_takes_by_default() -> None:
    compiled = compiled_reduction()
    for tokens in range(20, 32):
        x = _inputs(tokens, 64).cuda()
        assert torch.equal(compiled(x)["absmax"], x.abs().amax(0))
