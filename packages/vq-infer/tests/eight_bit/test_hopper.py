"""The attention kernel against the same in torch and against fp64 on a Hopper GPU; elsewhere it is compiled for one."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_infer.eight_bit import reference

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
BF16_OUTPUT = 2.5e-3  # rounding to it gives 1.7e-3

# The compiler needs no GPU.
COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import compile
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource
from vq_infer.eight_bit.hopper import _attend

layout = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=8, rank=2)
wide = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)
signature = dict.fromkeys(_attend.arg_names, "i32")
signature |= dict.fromkeys(("q_scale", "k_scale", "v_scale", "v_mean"), "*fp32") | {"out": "*bf16"}
signature |= dict.fromkeys(("STAGES", "DIM"), "constexpr") | {
    "q_tiles": f"tensordesc<i8[64, 64],{layout!r}>",
    "k_tiles": f"tensordesc<i8[128, 64],{layout!r}>",
    "v_tiles": f"tensordesc<fp8e4nv[64, 128],{wide!r}>",
}
constants = {(_attend.arg_names.index(name),): value for name, value in {"STAGES": 2, "DIM": 64}.items()}
source = GluonASTSource(_attend, signature, constants)
ptx = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}).asm["ptx"]
# Every product of 8-bit codes is an instruction for whole warpgroups, and none in FP8 adds to an earlier one's block.
assert "m64n128k32.s32.s8.s8" in ptx and "m64n64k32.f32.e4m3.e4m3" in ptx
print("compiled")
"""


@needs_triton
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(tmp_path: Path, start_code: Callable[..., Any]) -> None:
    compiling = start_code(COMPILED, TRITON_CACHE_DIR=str(tmp_path))
    assert compiling.ended(240) == 0, compiling.stderr
    assert compiling.stdout.strip() == "compiled", compiling.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("spread", [0.5, 5.0], ids=["flat", "peaked"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("queries", "keys", "dim"), [(1, 1, 64), (130, 700, 64), (1500, 1000, 128), (50, 100, 24)])
def test_weights_and_sums_on_cuda_are_those_of_torch(
    queries: int, keys: int, dim: int, dtype: torch.dtype, spread: float, hard: Callable[..., Any]
) -> None:
    from vq_infer.eight_bit.hopper import weigh

    inputs = hard(queries, keys, dim, spread=spread, dtype=dtype).cuda()
    operands = reference.quantize(*inputs)
    out = weigh(operands, keys, inputs.q)
    expected = reference.unpack(reference.weigh(operands, keys), inputs.q).double()
    assert out.shape == inputs.q.shape
    assert out.dtype == dtype
    assert (out.double() - expected).norm() / expected.norm() < BF16_OUTPUT
    assert inputs.error(out) < 0.04


@pytest.mark.gpu
def test_runs_are_the_same(hard: Callable[..., Any]) -> None:
    """The warpgroups are ordered by barriers alone: what hung on their speed would differ."""
    from vq_infer.eight_bit.hopper import weigh

    inputs = hard(3000, 3000, 128, heads=8, dtype=torch.bfloat16).cuda()
    operands = reference.quantize(*inputs)
    first = weigh(operands, 3000, inputs.q)
    assert all(torch.equal(first, weigh(operands, 3000, inputs.q)) for _ in range(20))
