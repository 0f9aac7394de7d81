import functools
import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vq_calib.observing.reduction
from vq_calib.observing.reduction import can_compile, compiled_reduction, eager_reduction, on_grid, reduction_for
from vq_core.statistics import all_statistics


def _inputs(tokens: int, channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(tokens, channels, generator=generator) * torch.linspace(0.1, 30, channels)


@pytest.mark.parametrize("chunk_elements", [2**23, 64, 1])
def test_eager_gives_every_statistic_and_describes_every_row(
    chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vq_calib.observing.reduction, "CHUNK_ELEMENTS", chunk_elements)
    x = _inputs(100, 8)
    reduced = eager_reduction().channels(x)
    assert sorted(reduced) == ["abs_sum", "absmax"]
    assert torch.equal(reduced["absmax"], x.abs().amax(0))
    torch.testing.assert_close(reduced["abs_sum"], x.double().abs().sum(0), rtol=1e-6, atol=2**-17)
    rows = eager_reduction().rows(x)
    assert torch.equal(rows.absmax, x.abs().amax(1))
    crest = x.double().abs().amax(1) / x.double().square().mean(1).sqrt()
    for value, counts, low in ((rows.absmax.double(), rows.absmax_histogram, -16), (crest, rows.crest_histogram, 0)):
        bins = (2 * (value.log2() - low)).floor().long()
        assert torch.equal(counts, bins.bincount(minlength=len(counts)))
    assert rows.non_finite == 0


def test_rows_of_zeros_and_rows_that_are_not_finite() -> None:
    x = torch.ones(7, 4)
    x[0] = 0
    x[1, 2], x[2, 0], x[3, 3], x[4, 1] = torch.nan, torch.inf, -torch.inf, 1e30
    rows = eager_reduction().rows(x)
    assert rows.non_finite == 4  # of the last one the square overflows
    assert rows.absmax_histogram.sum() == rows.crest_histogram.sum() == 7
    assert eager_reduction().rows(x[:1]).absmax_histogram.nonzero().tolist() == [[0]]
    assert eager_reduction().rows(x[:1]).crest_histogram.nonzero().tolist() == [[0]]


@given(st.lists(st.integers(0, 2**16), min_size=4, max_size=16), st.randoms(use_true_random=False))
def test_sums_of_calls_do_not_depend_on_their_order(seeds: list[int], random: Any) -> None:
    # Over more magnitudes than fp64 spans beyond fp32: sums of one magnitude would be exact without a grid too.
    calls = [eager_reduction().channels(_inputs(3 + seed % 50, 8) * 10.0 ** (seed % 10 - 7)) for seed in seeds]
    for name, statistic in all_statistics().items():
        in_order = functools.reduce(statistic.merge, (call[name] for call in calls))
        random.shuffle(calls)
        assert torch.equal(functools.reduce(statistic.merge, (call[name] for call in calls)), in_order)


@pytest.mark.parametrize(("value", "expected"), [(0.3, 0.25), (0.375, 0.5), (0.125, 0.0), (-0.9, -1.0), (1e6, 1e6)])
def test_rounding_to_a_grid(value: float, expected: float) -> None:
    x = torch.tensor([value], dtype=torch.float64)
    assert on_grid(x, 0.25).item() == expected
    assert on_grid(x, None) is x


def test_the_cpu_is_eager_and_cuda_without_a_compiler_too_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not can_compile("cpu")
    assert reduction_for("cpu").name == "eager"
    assert not caplog.text
    monkeypatch.setattr(vq_calib.observing.reduction, "can_compile", lambda device: False)
    with caplog.at_level(logging.WARNING):
        assert reduction_for("cuda").name == "eager"
    assert "install Triton" in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_compiled_equals_eager_on_cuda(dtype: torch.dtype) -> None:
    compiled, eager = compiled_reduction(), eager_reduction()
    for tokens, channels in ((4096, 5120), (4096, 13824), (512, 5120), (257, 1280), (1, 64), (4095, 96)):
        x = _inputs(tokens, channels).to("cuda", dtype)
        fused = compiled.channels(x)
        assert torch.equal(fused["absmax"], eager.channels(x)["absmax"])
        for name, reference in eager.channels(x).items():
            grid = all_statistics()[name].GRID or 0.0
            tolerance = 2e-6 * reference.double() + grid
            assert torch.all((fused[name].double() - reference.double()).abs() <= tolerance), name
        torch.testing.assert_close(fused["abs_sum"], x.double().abs().sum(0), rtol=1e-6, atol=2**-17)
        assert all(torch.equal(again, fused[name]) for name, again in compiled.channels(x).items())
        rows, reference_rows = compiled.rows(x), eager.rows(x)
        assert torch.equal(rows.absmax, reference_rows.absmax)
        assert torch.equal(rows.absmax_histogram, reference_rows.absmax_histogram)
        # A row at the edge of a crest bin may fall to either side.
        assert (rows.crest_histogram - reference_rows.crest_histogram).abs().sum() <= 4
        assert rows.non_finite == 0
        assert all(torch.equal(again, value) for again, value in zip(compiled.rows(x), rows, strict=True))


@pytest.mark.gpu
def test_more_shapes_than_torch_compile_takes_by_default() -> None:
    compiled = compiled_reduction()
    for tokens in range(20, 32):
        x = _inputs(tokens, 64).cuda()
        assert torch.equal(compiled.channels(x)["absmax"], x.abs().amax(0))
        assert torch.equal(compiled.rows(x).absmax, x.abs().amax(1))
