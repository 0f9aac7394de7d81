"""Rounding one Wan2.1-14B block on sampled tokens: seconds and peak memory of every stage, and what 40 blocks take.

Random weights and tokens of the real shapes: width 5120, feed-forward 13824, 4096 tokens to solve on and 1024 to judge
by, smoothed as SmoothQuant does. With `--device cpu --scale 8` the same at an eighth of every size, to try it anywhere.
From the root:

    PYTHONPATH=tools uv run python tools/bench/solve.py
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.random_model import loud_tokens
from vq_algos.layer.inputs import LinearInputs, sampled
from vq_algos.rounding.basis import Basis
from vq_algos.rounding.bias_and_score import correct_and_score
from vq_algos.rounding.column_rounding import round_columns
from vq_algos.rounding.rounders import rounder_named, rtn
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import dequantize, weight_scale
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import QuantScheme, Rounding, scheme_named
from vq_core.runtime.meter import host_peak_bytes
from vq_core.sampling.schedule import BUCKETS

DIM, FFN, FIT, HELD_OUT, BLOCKS = 5120, 13824, 4096, 1024, 40
GROUPS = {
    "attn1.qkv": (DIM, (DIM, DIM, DIM)),
    "attn1.out": (DIM, (DIM,)),
    "attn2.q": (DIM, (DIM,)),
    "attn2.kv": (DIM, (DIM, DIM)),
    "attn2.out": (DIM, (DIM,)),
    "ffn.up": (DIM, (FFN,)),
    "ffn.down": (FFN, (DIM,)),
}
"""Input width and output widths; text keys and values are solved here as a group of the block's own."""
STAGES = ("smooth", "rtn", "clip", "gptq", "auto", "settle")


@dataclass
class Cost:
    """The cost of one stage over the groups: seconds, and peak bytes on the device."""

    seconds: float = 0.0
    device_bytes: int = 0


def tokens(count: int, width: int, generator: torch.Generator, device: str) -> Tokens:
    """Random tokens, evenly over the buckets."""
    bucket = torch.arange(count, device=device) % BUCKETS
    return Tokens(loud_tokens(count, width, generator), torch.ones(count, device=device), bucket)


def smoothing(weights: list[Tensor], rows: Tensor) -> Tensor:
    """SmoothQuant's gain 1/s at α = 0.5."""
    weight_absmax = torch.stack([weight.abs().amax(dim=0) for weight in weights]).amax(dim=0)
    s = (rows.float().abs().amax(dim=0) / weight_absmax).sqrt()
    return nearest_bf16(1 / s)


@contextmanager
def measured(cost: Cost, device: str) -> Iterator[None]:
    """Add the cost of the block inside to `cost`."""
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    yield
    if on_cuda:
        torch.cuda.synchronize()
        cost.device_bytes = max(cost.device_bytes, torch.cuda.max_memory_allocated())
    cost.seconds += time.monotonic() - start


def solve_group(
    width: int, outputs: list[int], counts: tuple[int, int], scheme: QuantScheme, device: str, costs: dict[str, Cost]
) -> None:
    """Take one group of random weights and tokens through every stage."""
    generator = torch.Generator(device).manual_seed(0)
    weights = [torch.randn(rows, width, generator=generator, device=device) / width**0.5 for rows in outputs]
    fit, held_out = (tokens(count, width, generator, device) for count in counts)
    with measured(costs["smooth"], device):
        gain = smoothing(weights, fit.rows)
        weights = [weight / gain for weight in weights]
    rounding = Rounding.NEAREST_EVEN
    for method in ("rtn", "clip", "gptq", "auto"):
        with measured(costs[method], device):
            # Made anew for each, so that none reuses what another has computed.
            inputs = LinearInputs(sampled(fit, gain, scheme.activation), sampled(held_out, gain, scheme.activation))
            rounded = rounder_named(method).quantize(weights, inputs, scheme, rounding)
    with measured(costs["settle"], device):
        errors = Basis(NONE, weights, inputs).errors(rtn.quantize(weights, None, scheme, rounding))
        for weight, one, nearest in zip(weights, rounded, errors, strict=True):
            correct_and_score(weight, dequantize(one.quantized), inputs, nearest, correct_bias=True)


def launches(scheme: QuantScheme, device: str, scale: int) -> int:
    """Kernels launched while the columns of one `DIM`→`DIM` linear are rounded, its factor being at hand."""
    from torch.profiler import ProfilerActivity, profile

    generator = torch.Generator(device).manual_seed(0)
    rows = sampled(
        tokens(FIT // scale, DIM // scale, generator, device), torch.ones(1, device=device), scheme.activation
    )
    factor = LinearInputs(rows, rows).hessian.factor(0.1)
    weight = torch.randn(DIM // scale, DIM // scale, generator=generator, device=device)
    row_scale = weight_scale(weight, scheme.weight)

    def work() -> None:
        round_columns(weight, row_scale, factor, scheme.weight, Rounding.NEAREST_EVEN)

    work()  # compiles the kernel
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    return sum(event.count for event in profiler.key_averages() if "LaunchKernel" in event.key)


def main(
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    scheme: Annotated[str, typer.Option(help="int8, fp8, w6a8 or w4a8.")] = "int8",
    scale: Annotated[int, typer.Option(help="Divide every size by this.")] = 1,
    repeats: Annotated[int, typer.Option(help="Blocks solved; the last one is shown.")] = 2,
) -> None:
    """Measure and print one table."""
    chosen = scheme_named(scheme)
    for _ in range(repeats):  # the first compiles and warms up
        costs = {stage: Cost() for stage in STAGES}
        by_group: dict[str, float] = {}
        for name, (width, outputs) in GROUPS.items():
            before = costs["auto"].seconds
            counts = (FIT // scale, HELD_OUT // scale)
            solve_group(width // scale, [rows // scale for rows in outputs], counts, chosen, device, costs)
            by_group[name] = costs["auto"].seconds - before
    table = Table(title=f"One block of width {DIM // scale}, {scheme}, on {device}")
    for column in ("stage", "s", f"{BLOCKS} blocks, min", "peak device memory, GiB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, cost in costs.items():
        memory = f"{cost.device_bytes / 2**30:.2f}" if cost.device_bytes else ""
        table.add_row(stage, f"{cost.seconds:.2f}", f"{cost.seconds * BLOCKS / 60:.1f}", memory)
    console = Console()
    console.print(table)
    console.print("auto by group: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in by_group.items()))
    console.print(f"peak host memory {host_peak_bytes() / 2**30:.2f} GiB")
    if torch.device(device).type == "cuda":
        console.print(
            f"kernel launches for one {DIM // scale}→{DIM // scale} linear: {launches(chosen, device, scale)}"
        )


if __name__ == "__main__":
    typer.run(main)
