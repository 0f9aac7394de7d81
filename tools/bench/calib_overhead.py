"""What gathering statistics costs: the forward of Wan2.1-14B-shaped blocks without hooks, with eager, with compiled.

    python tools/bench/calib_overhead.py result.json
    python tools/bench/calib_overhead.py result.json --device cpu --heads 2 --head-dim 32 --ffn 160 --grid 3,4,6

Random weights in bfloat16; 480x832 pixels and 81 frames are the grid 21,30,52 of 32,760 tokens.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from vq_calib.observing.hooks import Observer
from vq_calib.observing.reduction import Reduction, can_compile, compiled_reduction, eager_reduction
from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.token_plan import Script, plan_tokens, script_of
from vq_core.artifacts.stats import OUTLIERS
from vq_core.families.wan import topology
from vq_core.sampling.schedule import Call, bucket_of

PATCH = (1, 2, 2)
CHANNELS, TEXT_DIM, IMAGE_DIM = 36, 4096, 1280
TEXT_TOKENS, IMAGE_TOKENS = 512, 257
MODEL_BLOCKS = 40
TIMESTEP = 900
WARM_UP = 3


def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write.")],
    device: str = "cuda",
    blocks: int = 2,
    heads: int = 40,
    head_dim: int = 128,
    ffn: int = 13824,
    grid: Annotated[str, typer.Option(help="Patches: frames,rows,columns.")] = "21,30,52",
    repeats: int = 12,
    rows: Annotated[int, typer.Option("--sampled", help="Rows sampled of each input in a forward.")] = 64,
) -> None:
    """Measure and write `output`."""
    frames, height, width = (int(side) for side in grid.split(","))
    model = build_model(device, blocks, heads, head_dim, ffn)
    inputs = build_inputs(device, frames, height, width)
    tokens = frames * height * width
    groups = topology(dict(model.config)).groups
    reductions: dict[str, Reduction | None] = {"no hooks": None, "eager": eager_reduction()}
    if can_compile(device):
        reductions["compiled"] = compiled_reduction()
    result: dict[str, object] = {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "torch": torch.__version__,
        "tokens": tokens,
        "sampled_rows": rows,
        "blocks": blocks,
        "width": heads * head_dim,
        "ffn": ffn,
    }
    variants: dict[str, dict[str, float]] = {}
    for name, reduction in reductions.items():
        script = build_script(tokens, WARM_UP + repeats, rows)
        observer = Observer(name, groups, script, reduction=reduction, flush=discard) if reduction else None
        variants[name] = measure(model, inputs, observer, device, repeats)
        variants[name]["overhead"] = variants[name]["forward_ms"] / variants["no hooks"]["forward_ms"] - 1
        extra = variants[name]["peak_bytes"] - variants["no hooks"]["peak_bytes"]
        variants[name]["extra_peak_mb"] = extra / 1e6
        print(f"{name:>9}: {json.dumps(variants[name])}", flush=True)
    video = sum(group.in_features for group in groups if group.sequence == "video") / blocks * MODEL_BLOCKS
    result |= {
        "variants": variants,
        # Two branches, 28 bytes a channel; bf16 rows of highest absmax; bf16 rows of a step of two branches.
        "sums_mb_of_40_blocks": 2 * 28 * video / 1e6,
        "outliers_mb_of_40_blocks": 2 * OUTLIERS * video / 1e6,
        "sampled_mb_of_40_blocks": 2 * 2 * rows * video / 1e6,
    }
    output.write_text(json.dumps(result, indent=2) + "\n")


def build_model(device: str, blocks: int, heads: int, head_dim: int, ffn: int) -> WanTransformer3DModel:
    """An image-to-video transformer of `blocks` random blocks, straight on the device."""
    with torch.device(device):
        model = WanTransformer3DModel(
            patch_size=PATCH,
            num_attention_heads=heads,
            attention_head_dim=head_dim,
            in_channels=CHANNELS,
            out_channels=16,
            text_dim=TEXT_DIM,
            freq_dim=256,
            ffn_dim=ffn,
            num_layers=blocks,
            image_dim=IMAGE_DIM,
            added_kv_proj_dim=heads * head_dim,
        )
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.bfloat16()
    return model.eval()


def build_inputs(device: str, frames: int, rows: int, columns: int) -> dict[str, Tensor]:
    """Random arguments of one forward; the number of patches is frames · rows · columns."""
    shape = (1, CHANNELS, frames * PATCH[0], rows * PATCH[1], columns * PATCH[2])
    generator = torch.Generator().manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(device, torch.bfloat16)

    return {
        "hidden_states": noise(*shape),
        "timestep": torch.tensor([TIMESTEP], device=device),
        "encoder_hidden_states": noise(1, TEXT_TOKENS, TEXT_DIM),
        "encoder_hidden_states_image": noise(1, IMAGE_TOKENS, IMAGE_DIM),
    }


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


@torch.no_grad()
def measure(
    model: nn.Module, inputs: dict[str, Tensor], observer: Observer | None, device: str, repeats: int
) -> dict[str, float]:
    """Median milliseconds of a forward and of the end of a step, and the peak of allocated device memory."""

    def end_step() -> None:
        if observer is not None:
            observer.end_step()

    forwards: list[float] = []
    ends: list[float] = []
    with attached(observer, model):
        for call in range(WARM_UP + repeats):
            if call == WARM_UP:
                reset_peak(device)
            forwards.append(timed(lambda: model(**inputs), device))
            ends.append(timed(end_step, device))
        peak = peak_bytes(device)
        flush_ms = timed(observer.flush, device) if observer is not None else 0.0
    forward_ms, end_ms = median(forwards[WARM_UP:]), median(ends[WARM_UP:])
    return {"forward_ms": forward_ms, "end_of_step_ms": end_ms, "flush_ms": flush_ms, "peak_bytes": peak}


def timed(call: Callable[[], object], device: str) -> float:
    """Milliseconds until the device has done `call`."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return (time.perf_counter() - start) * 1000


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def reset_peak(device: str) -> None:
    """Forget earlier peaks of device memory."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: str) -> float:
    """Peak of allocated device memory; 0 on the CPU."""
    return float(torch.cuda.max_memory_allocated(device)) if device != "cpu" else 0.0


if __name__ == "__main__":
    typer.run(main)
