import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized, quantize_weight, snr_db
from vq_core.numerics.scheme import NumberFormat
from vq_eval.videos.fake_quant_linear import FakeQuantLinear, GainLinear

FORMATS = st.sampled_from(list(NumberFormat))
SHAPES = st.lists(st.integers(0, 3), min_size=1, max_size=3)


class Case:
    """Random operands; some tokens are all zero and some channels are a hundred times the others."""

    def __init__(self, fmt: NumberFormat, batch: list[int], seed: int, *, with_gain: bool, size: int = 24) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.fmt = fmt
        self.x = torch.randn(*batch, size, generator=rng) * torch.tensor([1.0, 100.0, 1.0, 1e-3]).repeat(size // 4)
        self.x *= (torch.rand(*batch, 1, generator=rng) > 0.2).float()
        self.weight = quantize_weight(torch.randn(10, size, generator=rng), fmt)
        self.bias = torch.randn(10, generator=rng)
        self.gain = nearest_bf16(torch.rand(size, generator=rng) + 0.5) if with_gain else None

    def module(self) -> FakeQuantLinear:
        return FakeQuantLinear(self.weight, self.bias, self.gain)

    def reference(self) -> np.ndarray:
        """The definition, literally: codes by IEEE fp32 division as the kernels have it, everything after in fp64."""
        x = self.x.numpy() if self.gain is None else self.x.numpy() * self.gain.numpy()
        qmax = np.float32(127 if self.fmt is NumberFormat.INT8 else 448)
        scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-5)) / qmax
        scaled = np.clip(x / scale, -qmax, qmax).astype(np.float64)
        codes = np.rint(scaled) if self.fmt is NumberFormat.INT8 else _nearest_e4m3(scaled)
        weight = self.weight.codes.float().numpy().astype(np.float64) * self.weight.scale.numpy()
        return (codes * scale.astype(np.float64)) @ weight.T + self.bias.numpy()

    def assert_close(self, y: Tensor) -> None:
        expected = self.reference()
        assert y.shape == expected.shape
        magnitude = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(y.double().cpu().numpy(), expected, rtol=1e-5, atol=1e-5 * magnitude)


def _nearest_e4m3(x: np.ndarray) -> np.ndarray:
    """3 bits behind the leading one, exponents from -6 on; ties to even."""
    exponent = np.maximum(np.floor(np.log2(np.maximum(np.abs(x), 2.0**-20))), -6)
    step = 2.0 ** (exponent - 3)
    return np.rint(x / step) * step


@given(FORMATS, SHAPES, st.integers(0, 1000), st.booleans())
def test_it_is_the_formula_in_fp64(fmt: NumberFormat, batch: list[int], seed: int, with_gain: bool) -> None:
    case = Case(fmt, batch, seed, with_gain=with_gain)
    case.assert_close(case.module()(case.x))


@pytest.mark.parametrize("fmt", NumberFormat)
def test_a_zero_token_gives_the_bias(fmt: NumberFormat) -> None:
    case = Case(fmt, [2], 0, with_gain=True)
    assert torch.equal(case.module()(torch.zeros(2, 24)), case.bias.expand(2, -1))


def test_the_output_has_the_dtype_of_the_input_and_the_bias_is_not_rounded_before() -> None:
    case = Case(NumberFormat.INT8, [3], 0, with_gain=True)
    x = case.x.bfloat16()
    y = case.module()(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, w8a8_linear(x, case.weight, case.bias, case.fmt, case.gain).bfloat16())


def test_tensors_move_with_the_module_and_nothing_is_trained() -> None:
    module = Case(NumberFormat.INT8, [1], 0, with_gain=True).module()
    assert {name for name, _ in module.named_buffers()} == {"codes", "scale", "bias", "gain"}
    assert not list(module.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("with_gain", [False, True])
@pytest.mark.parametrize("fmt", NumberFormat)
def test_cuda_computes_the_formula_too(fmt: NumberFormat, with_gain: bool) -> None:
    case = Case(fmt, [2, 33], 0, with_gain=with_gain, size=5120)  # long sums, where a narrow accumulator would show
    y = case.module().cuda()(case.x.cuda())
    assert y.is_cuda
    # CUDA divides by a constant in its own way, so a code on the edge of rounding may differ; bfloat16 sums give 50 dB.
    assert snr_db(torch.from_numpy(case.reference()), y.cpu()) > 70


@pytest.mark.gpu
@pytest.mark.parametrize("fmt", NumberFormat)
def test_cuda_without_bias(fmt: NumberFormat) -> None:
    case = Case(fmt, [5], 0, with_gain=False)
    weight = Quantized(case.weight.codes.cuda(), case.weight.scale.cuda())
    y = w8a8_linear(case.x.cuda(), weight, None, fmt)
    case.assert_close(y + case.bias.cuda())


def test_a_gain_multiplies_the_input_of_its_linear() -> None:
    linear, gain, x = nn.Linear(8, 4), torch.rand(8) + 0.5, torch.randn(2, 3, 8)
    folded = nn.Linear(8, 4)
    folded.load_state_dict({"weight": linear.weight / gain, "bias": linear.bias})
    torch.testing.assert_close(GainLinear(folded, gain)(x), linear(x), rtol=1e-5, atol=1e-6)


def test_a_gain_is_multiplied_in_fp32_in_a_bfloat16_model() -> None:
    linear, gain, x = nn.Linear(8, 4).bfloat16(), torch.rand(8) + 0.5, torch.randn(2, 8).bfloat16()
    y = GainLinear(linear, gain)(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, linear((x.double() * gain).bfloat16()))
