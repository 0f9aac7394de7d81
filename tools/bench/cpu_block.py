"""The engine on a CPU: a block of Wan2.1-1.3B, and the whole of wan-tiny, beside diffusers' own in fp32.

    python tools/bench/cpu_block.py result.json
    python tools/bench/cpu_block.py result.json --height 64 --width 64 --num-frames 5 --rounds 1

Random weights and inputs. All run in one process and in turns, so that what else the machine does slows all of them;
the processor's own time, of all threads together, is without that.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import nn

import vq_wan_tiny
from vq_core.sampling.model_defaults import defaults_of
from vq_infer.bench.models.baselines import diffusers_model
from vq_infer.bench.models.engine import engine
from vq_infer.bench.models.workload import Step, Workload
from vq_infer.engine.transformer import kernel_names
from vq_infer.memory.model_sizes import MODEL_SIZES

CPU = torch.device("cpu")
FP32 = "diffusers fp32"
SCHEMES = ("int8", "fp8")
TINY_CONFIG = Path(vq_wan_tiny.__file__).parent / "wan_tiny" / "transformer" / "config.json"
TIMESTEP = 900.0


def block_of_wan(height: int, width: int, num_frames: int) -> Workload:
    """One block of Wan2.1-1.3B for a video of that size."""
    config = {**MODEL_SIZES["1.3b"], "num_layers": 1}
    return Workload("a block of Wan2.1-1.3B", config, 30, height, width, num_frames)


def wan_tiny() -> Workload:
    """The whole of wan-tiny, for the video that it was trained on."""
    config, said = json.loads(TINY_CONFIG.read_text()), defaults_of("wan-tiny")
    return Workload("wan-tiny", config, config["num_layers"], said.height, said.width, said.num_frames)


def models_of(workload: Workload) -> dict[str, nn.Module]:
    """Diffusers' transformer and the engine's, by name."""
    return {FP32: diffusers_model(workload, CPU)} | {
        name: engine(workload, CPU, name, None, "sdpa") for name in SCHEMES
    }


def first_blocks(models: dict[str, nn.Module], step: Step) -> dict[str, Callable[[], object]]:
    """The first block of each, on what diffusers' own is given."""
    given: list[Any] = []
    blocks: dict[str, Any] = {name: model.get_submodule("blocks.0") for name, model in models.items()}
    hook = blocks[FP32].register_forward_pre_hook(lambda _, arguments: given.extend(arguments))
    step.forward(models[FP32], "cond", TIMESTEP)
    hook.remove()
    return {name: partial(block, *given) for name, block in blocks.items()}


def whole(models: dict[str, nn.Module], step: Step) -> dict[str, Callable[[], object]]:
    """One pass through each."""
    return {name: partial(step.forward, model, "cond", TIMESTEP) for name, model in models.items()}


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each; one after another in every round, the first of which warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(1 + rounds):
        for name, work in works.items():
            clock, processor = time.perf_counter(), time.process_time()
            work()
            times[name].append((1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processor)))
    return {
        name: {"clock_ms": median(clock), "processor_ms": median(processor)}
        for name, (clock, processor) in ((name, zip(*measured[1:], strict=True)) for name, measured in times.items())
    }


@torch.no_grad()
def main(
    output: Annotated[Path, typer.Argument(help="JSON file to write.")],
    height: int = 480,
    width: int = 832,
    num_frames: int = 5,
    rounds: int = 7,
) -> None:
    """Measure, print a line for each and write `output`."""
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    for workload, works_of in ((block_of_wan(height, width, num_frames), first_blocks), (wan_tiny(), whole)):
        models = models_of(workload)
        measured = medians(works_of(models, Step(workload, CPU, torch.float32)), rounds)
        report[workload.size] = rows = {}
        for name, times in measured.items():
            ratios = {kind.replace("ms", "ratio"): measured[FP32][kind] / ms for kind, ms in times.items()}
            rows[name] = {**times, **ratios, "kernels": kernel_names(models[name])}
            print(f"{workload.size}, {workload.tokens} tokens, {name}: {json.dumps(times | ratios)}", flush=True)
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
