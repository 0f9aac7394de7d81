"""The Triton kernel against the torch path: on a GPU, and on the CPU through Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_algos.layer.hessian import Hessian
from vq_algos.rounding.column_rounding import round_block, round_columns
from vq_core.numerics.grouped import LEVELS, group_scale
from vq_core.numerics.quantize import Groups, Quantized, weight_scale
from vq_core.numerics.scheme import SCHEMES, NumberFormat, QuantScheme, Rounding

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

# The interpreter must be asked for before Triton is imported, and takes its time by the operation, so that its programs
# are large; the last one is masked, and so are some of a block's columns. One column without compensation meets every
# rounding case: each midpoint between neighbouring codes and both of its fp32 neighbours, of either sign, and what
# saturates.
INTERPRETED = """
import torch
from vq_algos.rounding import column_rounding_triton
from vq_algos.rounding.column_rounding import round_block
from vq_algos.rounding.column_rounding_triton import round_block as in_triton
from vq_core.numerics.grouped import LEVELS
from vq_core.numerics.quantize import Groups
from vq_core.numerics.scheme import NumberFormat, Rounding

column_rounding_triton.ROWS, column_rounding_triton.BLOCK = 512, 8
codes = {
    NumberFormat.INT8: torch.arange(0, 129).float(),
    NumberFormat.FP8_E4M3: torch.arange(0, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).float(),
}
for fmt in NumberFormat:
    middles = (codes[fmt][1:] + codes[fmt][:-1]) / 2
    edges = torch.cat([codes[fmt], middles, torch.tensor([1e-30, 1e-4, 449.0, 470.0, 1e30])])
    edges = torch.cat([edges, *(edges.nextafter(torch.tensor(side)) for side in (0.0, torch.inf))])
    edges = torch.cat([edges, -edges])
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(5, len(edges), generator=generator)
    columns[0] = edges
    couplings = torch.randn(5, 5, generator=generator).triu(1)
    shift = torch.randn(5, len(edges), generator=generator)
    shift[0] = 0
    scale = torch.ones(len(edges))
    for rounding in Rounding:
        ours, theirs = (f(columns, shift, couplings, scale, fmt, rounding) for f in (in_triton, round_block))
        assert torch.equal(ours[0][0], theirs[0][0]), (fmt, rounding)
        if fmt is NumberFormat.FP8_E4M3:
            assert torch.equal(ours[0][0].signbit(), theirs[0][0].signbit()), (fmt, rounding)
        # Later columns hold sums in another order, so a value between two codes may go to either.
        assert (ours[0] != theirs[0]).float().mean() < 1e-3, (fmt, rounding)
        torch.testing.assert_close(ours[1][0], theirs[1][0])
for bits, levels in LEVELS.items():
    for relative in (2.0**-9, 0.4375, 1.0, 3.75, 100.0, 448.0):
        decoded = (torch.tensor(levels) * relative).round().clamp(-127, 127).unique()
        edges = torch.cat([decoded, (decoded[1:] + decoded[:-1]) / 2, torch.tensor([-0.5, 0.5, 1e-30, 200.0, -1e30])])
        edges = torch.cat([edges, *(edges.nextafter(torch.tensor(side)) for side in (-torch.inf, torch.inf))])
        columns, zero = edges.unsqueeze(0), torch.zeros(1, len(edges))
        groups = Groups(torch.full_like(columns, relative), bits)
        arguments = (columns, zero, torch.zeros(1, 1), torch.ones(len(edges)), NumberFormat.INT8, Rounding.QTORCH)
        ours, theirs = (f(*arguments, groups)[0] for f in (in_triton, round_block))
        assert torch.equal(ours, theirs), (bits, relative)
print("equal")
"""


@needs_triton
def test_the_kernel_rounds_as_torch_does_in_tritons_interpreter() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr


@needs_triton
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    from vq_algos.rounding.column_rounding_triton import (
        BLOCK,
        E4M3_AWAY,
        E4M3_EVEN,
        INT8_EVEN,
        ROWS,
        _round_block_kernel,
    )

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = ("columns", "shift", "couplings", "scale", "group_scale", "levels", "values", "differences")
    numbers = ("out_features", "n", "couplings_stride")
    for kind in (INT8_EVEN.value, E4M3_EVEN.value, E4M3_AWAY.value, *LEVELS):
        constants = {"kind": kind, "block": BLOCK, "rows": ROWS}
        kinds = ((pointers, "*fp32"), (numbers, "i32"), (constants, "constexpr"))
        signature = {name: of for names, of in kinds for name in names}
        source = ASTSource(_round_block_kernel, signature, constants)
        options = {"num_warps": 1, "enable_fp_fusion": False}
        kernel = compile_kernel(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert "fma.rn" not in kernel.asm["ptx"]


def _problem(rows: int, channels: int) -> tuple[Tensor, Hessian]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels // 3, channels, generator=generator)
    x_hat = torch.randn(2 * channels, len(mixing), generator=generator) @ mixing
    x_hat += 0.3 * torch.randn(2 * channels, channels, generator=generator)
    weight = torch.randn(rows, channels, generator=generator).cuda()
    return weight, Hessian(x_hat.cuda(), torch.ones(2 * channels, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", NumberFormat)
@pytest.mark.parametrize("n", [128, 77, 1])
def test_a_block_on_cuda_is_the_torch_path_within_rounding_ties(n: int, fmt: NumberFormat, rounding: Rounding) -> None:
    from vq_algos.rounding.column_rounding_triton import round_block as in_triton

    weight, hessian = _problem(500, 160)
    couplings = hessian.factor(0.1).couplings[20:, 20:][:n, :n]
    columns = weight.T[:n].contiguous()
    scale, shift = weight_scale(weight, fmt).view(-1), torch.randn_like(columns) * 0.01
    ours, theirs = (f(columns, shift, couplings, scale, fmt, rounding) for f in (in_triton, round_block))
    # A tie that the order of a sum decides moves every later column of that row, so rows are compared.
    same = (ours[0] == theirs[0]).all(dim=0)
    assert same.float().mean() > 0.98
    torch.testing.assert_close(ours[1][:, same], theirs[1][:, same], rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=attrgetter("name"))
def test_whole_linears_come_out_as_good_as_on_the_cpu(scheme: QuantScheme) -> None:
    weight, hessian = _problem(300, 320)
    factor = hessian.factor(0.1)

    def rounded_on(device: str) -> Quantized:
        here = weight.to(device)
        scale = weight_scale(here, scheme.weight)
        groups = Groups(group_scale(here, scale, scheme.bits), scheme.bits) if scheme.grouped else None
        solved = type(factor)(factor.order.to(device), factor.couplings.to(device), factor.damp)
        return round_columns(here, scale, solved, scheme.weight, Rounding.NEAREST_EVEN, groups)

    on_cuda, on_cpu = rounded_on("cuda"), rounded_on("cpu")
    errors = [
        hessian.errors(weight - (codes.cuda().float() * scale.cuda())).sum() for codes, scale, *_ in (on_cuda, on_cpu)
    ]
    assert torch.equal(on_cuda.scale.cpu(), on_cpu.scale)
    assert float(errors[0]) == pytest.approx(float(errors[1]), rel=0.01)
