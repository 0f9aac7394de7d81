"""A denoising step of Wan2.1-14B shared among GPUs, beside the same step on one of them.

Random weights, made on every GPU. The first process measures its own GPU alone, then all measure together; the
predictions are compared. From the root, on a machine with two GPUs:

    PYTHONPATH=tools torchrun --standalone --nproc-per-node 2 tools/bench/parallel.py shared.json --ulysses 2
    PYTHONPATH=tools torchrun --standalone --nproc-per-node 2 tools/bench/parallel.py ring.json --ring 2
    PYTHONPATH=tools torchrun --standalone --nproc-per-node 2 tools/bench/parallel.py cfg.json --cfg-parallel
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer

from vq_core.runtime.device import resolve_device, runtime_dtype
from vq_core.runtime.process import this_process
from vq_infer.bench.measuring.measure import steady
from vq_infer.bench.models.engine import engine
from vq_infer.bench.models.workload import Step, Workload, timesteps
from vq_infer.bench.report.results import relative_error
from vq_infer.bench.worker import CHECKED_TIMESTEP, cut
from vq_infer.memory.model_sizes import MODEL_SIZES
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.parallel.team import parallelize, team
from vq_infer.timing import timed


def main(
    output: Annotated[Path, typer.Argument(help="JSON to write.")],
    ulysses: Annotated[int, typer.Option(help="Processes that share tokens and heads.")] = 1,
    ring: Annotated[int, typer.Option(help="Processes that share tokens and pass keys around.")] = 1,
    cfg_parallel: Annotated[bool, typer.Option("--cfg-parallel", help="Share the two predictions.")] = False,
    scheme: Annotated[str, typer.Option(help="int8 or fp8.")] = "fp8",
    attention: Annotated[str, typer.Option(help="What `--attention` takes.")] = "auto",
    model_size: Annotated[str, typer.Option(help="As for `vq-infer bench`.")] = "14b",
    height: int = 480,
    width: int = 832,
    num_frames: int = 81,
    blocks: Annotated[int | None, typer.Option(help="The first so many.")] = None,
    seconds: Annotated[float, typer.Option(help="Of steady load.")] = 15.0,
    device: Annotated[str | None, typer.Option(help="cuda or cpu.")] = None,
) -> None:
    """Measure, compare and print one line."""
    config = MODEL_SIZES[model_size]
    workload = Workload(model_size, config, int(config["num_layers"]), height, width, num_frames)
    workload.check()
    workload = cut(workload, blocks or workload.whole)
    plan = ParallelPlan(ulysses, ring, cfg_parallel)
    with team(plan, this_process(), torch.device(resolve_device(device))) as here:
        model = engine(workload, here.device, scheme, None, attention)
        step, stream = Step(workload, here.device, runtime_dtype(here.device)), timesteps()
        alone = step.run(model, CHECKED_TIMESTEP).float().cpu().numpy()
        found: dict[str, object] = {"plan": vars(plan), "scheme": scheme, "attention": attention}
        if here.process.is_first:
            found["alone"] = steady(lambda: step.run(model, next(stream)), here.device, seconds).median
        dist.barrier()
        parallelize(model, here, tokens=workload.tokens, guided=True)
        together = step.run(model, CHECKED_TIMESTEP).float().cpu().numpy()
        # Every process has to take as many steps as the others: the first has said how many.
        count = torch.tensor([max(3, round(seconds / timed(lambda: step.run(model, 1.0), here.device)))])
        count = count.to(here.device)
        dist.broadcast(count, 0)
        times = sorted(timed(lambda: step.run(model, next(stream)), here.device) for _ in range(int(count)))
        found |= {"shared": times[len(times) // 2], "difference": relative_error(together, alone)}
    if here.process.is_first:
        found["workload"] = {"size": model_size, "tokens": workload.tokens, "blocks": workload.blocks}
        output.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
