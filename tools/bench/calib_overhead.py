"""The cost of gathering statistics: Wan2.1-14B-shaped blocks without hooks, with eager hooks, with compiled hooks.

    python tools/bench/calib_overhead.py result.json
    python tools/bench/calib_overhead.py result.json --device cpu --heads 2 --head-dim 32 --ffn 160 --grid 3,4,6

Random weights in bfloat16 (fp32 on a CPU); 480x832 pixels and 81 frames are the grid 21,30,52 of 32,760 tokens.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from vq_calib.observing.hooks import Observer
from vq_calib.observing.reduction import Reduction, can_compile, compiled_reduction, eager_reduction
from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.token_plan import Script, plan_tokens, script_of
from vq_core.artifacts.stats import OUTLIERS
from vq_core.families.wan import topology
from vq_core.runtime.device import runtime_dtype
from vq_core.sampling.schedule import Call, bucket_of
from vq_infer.bench.models.baselines import diffusers_model
from vq_infer.bench.models.workload import Step, Workload
from vq_infer.memory.model_sizes import MODEL_SIZES
from vq_infer.timing import timed

WAN = MODEL_SIZES["14b"]
TIMESTEP = 900
WARM_UP = 3


def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write.")],
    device: str = "cuda",
    blocks: int = 2,
    heads: int = WAN["num_attention_heads"],
    head_dim: int = WAN["attention_head_dim"],
    ffn: int = WAN["ffn_dim"],
    grid: Annotated[str, typer.Option(help="Patches: frames,rows,columns.")] = "21,30,52",
    repeats: int = 12,
    rows: Annotated[int, typer.Option("--sampled", help="Rows sampled of each input in a forward.")] = 64,
) -> None:
    """Measure and write `output`."""
    frames, height, width = (int(side) for side in grid.split(","))
    shape = {"num_attention_heads": heads, "attention_head_dim": head_dim, "added_kv_proj_dim": heads * head_dim}
    config = {**WAN, **shape, "ffn_dim": ffn, "num_layers": blocks}
    # A patch is 16x16 pixels, and four frames behind the first.
    workload = Workload("14b", config, WAN["num_layers"], 16 * height, 16 * width, 4 * (frames - 1) + 1)
    place = torch.device(device)
    model, step = diffusers_model(workload, place), Step(workload, place, runtime_dtype(place))
    groups = topology(config).groups
    reductions: dict[str, Reduction | None] = {"no hooks": None, "eager": eager_reduction()}
    if can_compile(device):
        reductions["compiled"] = compiled_reduction()
    result: dict[str, object] = {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "torch": torch.__version__,
        "tokens": workload.tokens,
        "sampled_rows": rows,
        "blocks": blocks,
        "width": workload.dim,
        "ffn": ffn,
    }
    variants: dict[str, dict[str, float]] = {}
    for name, reduction in reductions.items():
        script = build_script(workload.tokens, WARM_UP + repeats, rows)
        observer = Observer(name, groups, script, reduction=reduction, flush=discard) if reduction else None
        variants[name] = found = measure(model, step, observer, place, repeats)
        found["overhead"] = found["forward_ms"] / variants["no hooks"]["forward_ms"] - 1
        found["extra_peak_mb"] = (found["peak_bytes"] - variants["no hooks"]["peak_bytes"]) / 1e6
        print(f"{name:>9}: {json.dumps(found)}", flush=True)
    video = sum(group.in_features for group in groups if group.sequence == "video") / blocks * workload.whole
    result |= {
        "variants": variants,
        # Two branches, 28 bytes a channel; bf16 rows of highest absmax; bf16 rows of a step of two branches.
        "sums_mb_of_40_blocks": 2 * 28 * video / 1e6,
        "outliers_mb_of_40_blocks": 2 * OUTLIERS * video / 1e6,
        "sampled_mb_of_40_blocks": 2 * 2 * rows * video / 1e6,
    }
    output.write_text(json.dumps(result, indent=2) + "\n")


def build_script(tokens: int, forwards: int, rows: int) -> Script:
    """A prompt of `forwards` unguided steps at one noise level, `rows` of each sampled on average."""
    prompt = CalibPrompt(0, "0" * 64, 0, "fit", tokens)
    calls = [Call(step, 0, TIMESTEP, bucket_of(TIMESTEP / 1000)) for step in range(forwards)]
    return script_of(prompt, calls, plan_tokens([prompt], calls, rows * forwards))


def discard(bucket: int, sums: dict[str, Tensor]) -> None:
    """Stands for writing a bucket."""


@contextmanager
def attached(observer: Observer | None, model: nn.Module) -> Iterator[None]:
    """Watch `model` within the block, if there is an observer."""
    if observer is None:
        yield
        return
    with observer.attached(model):
        yield


def measure(
    model: nn.Module, step: Step, observer: Observer | None, device: torch.device, repeats: int
) -> dict[str, float]:
    """Median milliseconds of a forward and of the end of a step, and the peak of allocated device memory."""

    def end_step() -> None:
        if observer is not None:
            observer.end_step()

    forwards: list[float] = []
    ends: list[float] = []
    on_cuda = device.type == "cuda"
    with attached(observer, model):
        for call in range(WARM_UP + repeats):
            if call == WARM_UP and on_cuda:
                torch.cuda.reset_peak_memory_stats(device)
            forwards.append(1000 * timed(lambda: step.forward(model, "cond", TIMESTEP), device))
            ends.append(1000 * timed(end_step, device))
        peak = float(torch.cuda.max_memory_allocated(device)) if on_cuda else 0.0
        flush_ms = 1000 * timed(observer.flush, device) if observer is not None else 0.0
    forward_ms, end_ms = median(forwards[WARM_UP:]), median(ends[WARM_UP:])
    return {"forward_ms": forward_ms, "end_of_step_ms": end_ms, "flush_ms": flush_ms, "peak_bytes": peak}


if __name__ == "__main__":
    typer.run(main)
