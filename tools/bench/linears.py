"""One linear of Wan2.1-14B on a CUDA GPU: bfloat16 beside the quantized linears of vq-infer, unfused as they are.

Random data, 32,760 tokens (832x480, 81 frames), medians of CUDA events. Also the error of each against fp64.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import FP8, INT8
from vq_infer.kernels import select_kernel
from vq_infer.kernels.quant_linear import QuantLinear

SHAPES = ((5120, 5120), (5120, 13824), (13824, 5120))
ERROR_TOKENS = 512


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of `work` by CUDA events, after warming up."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def measure(in_features: int, out_features: int, tokens: int, repeats: int) -> list[dict[str, object]]:
    """One row per kind of linear: milliseconds, and ‖Y − Y₆₄‖ / ‖Y₆₄‖ on the first tokens."""
    torch.manual_seed(0)
    x = torch.randn(tokens, in_features, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(out_features, in_features, device="cuda", dtype=torch.bfloat16) * 0.02
    bias = torch.randn(out_features, device="cuda", dtype=torch.bfloat16)
    exact = F.linear(x[:ERROR_TOKENS].double(), weight.double(), bias.double())
    linears: dict[str, Callable[[Tensor], Tensor]] = {"bf16": lambda x: F.linear(x, weight, bias)}
    for scheme in (INT8, FP8):
        kernel = select_kernel("cuda", torch.cuda.get_device_capability(), scheme.weight)
        linears[scheme.name] = QuantLinear(quantize_weight(weight, scheme.weight), bias, None, kernel)
    return [
        {
            "linear": f"{in_features}→{out_features}",
            "kind": kind,
            "ms": median_ms(partial(linear, x), repeats),
            "error": float((linear(x[:ERROR_TOKENS]).double() - exact).norm() / exact.norm()),
        }
        for kind, linear in linears.items()
    ]


@torch.no_grad()
def main(
    output: Annotated[Path, typer.Argument(help="JSON to write.")],
    tokens: int = 32760,
    repeats: int = 20,
) -> None:
    """Measure every shape and print one line each."""
    rows = []
    for in_features, out_features in SHAPES:
        for row in measure(in_features, out_features, tokens, repeats):
            rows.append(row)
            print(row, flush=True)
    output.write_text(json.dumps({"device": torch.cuda.get_device_name(), "tokens": tokens, "rows": rows}, indent=1))


if __name__ == "__main__":
    typer.run(main)
