"""The offline stages on Wan2.1-14B-shaped blocks: seconds and peak memory of each command, and the time for 40 blocks.

A random image-to-video transformer of real width with a few blocks, and statistics of it as `vq-calib collect` writes
them, with 4096 sampled tokens to solve on and 1024 to judge by. The tokens are random too: correlated, with loud
channels. Every command runs in a process of its own, on a model of few blocks and on one of more: what a further block
takes is the difference over their number, and 40 blocks take the longer run and 40 minus its blocks more of that.
`--scale 8` is the same at an eighth of every size. From the root:

    PYTHONPATH=tools uv run python tools/bench/offline.py
"""

import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.random_model import loud_tokens, write_model
from bench.random_pipeline import BLOCKS, HEAD_DIM, HEADS, transformer_config
from road import run_apart
from vq_core.artifacts.histograms import HISTOGRAMS
from vq_core.artifacts.stats import BRANCHES, TABLE_COLUMNS, stats_header
from vq_core.model.source import Source, open_source
from vq_core.sampling.schedule import BUCKETS
from vq_core.store.writer import create_artifact
from vq_core.topology import Group, shard_of

FIT, HELD_OUT = 4096, 1024
COMMANDS = {
    "smoothquant": ("smooth", "--method", "smoothquant"),
    "smoothquant, then rtn": ("quantize", "--method", "rtn"),
    "auto": ("smooth", "--method", "auto"),
    "auto, then auto with GPTQ": ("quantize", "--method", "auto"),
    "auto for ComfyUI": ("smooth", "--method", "auto", "--target", "comfyui"),
    "auto for ComfyUI, then auto with GPTQ and rotation": ("quantize", "--method", "auto"),
}
"""`smooth` reads the model and the statistics, `quantize` what the `smooth` before it wrote.

ComfyUI cannot hold calibrated FP8.
"""


def write_stats(folder: Path, source: Source, counts: tuple[int, int]) -> None:
    """Statistics of random inputs."""
    settings = {"prompts": [], "total_prompts": 0, "parts": None, "tokens": counts[0], "steps": 40}
    (checkpoint,) = source.components.values()
    with create_artifact(folder, stats_header("bench", source, settings)) as writer:
        for shard in checkpoint.topology.shards():
            tensors: dict[str, Tensor] = {}
            for group in checkpoint.topology.groups:
                if shard_of(group.name) == shard:
                    tensors |= group_statistics(group, counts)
            if shard == "non_block":
                for name, count in zip(("fit", "held_out"), counts, strict=True):
                    table = torch.zeros(count, len(TABLE_COLUMNS), dtype=torch.int64)
                    table[:, TABLE_COLUMNS.index("bucket")] = torch.arange(count) % BUCKETS
                    tensors[f"tokens.{name}"] = table
            (component,) = source.components
            writer.write_tensors(f"{component}/{shard}.safetensors", tensors)


def group_statistics(group: Group, counts: tuple[int, int]) -> dict[str, Tensor]:
    """The tensors of one group in the artifact."""
    size = (BUCKETS, len(BRANCHES))
    fit, held_out = rows(sum(counts), group.in_features).split(counts)
    tensors: dict[str, Tensor] = {
        "absmax": fit.float().abs().amax(dim=0).expand(*size, -1).contiguous(),
        "abs_sum": fit.abs().double().sum(dim=0).expand(*size, -1).contiguous(),
        "count": torch.full(size, len(fit)),
        "outliers": fit[:64].clone(),
        "outlier_keys": torch.arange(64),
    }
    for name, histogram in HISTOGRAMS.items():
        tensors[f"{name}_histogram"] = torch.zeros(*size, histogram.bins, dtype=torch.int64)
    if group.sequence == "video":
        tensors |= {"fit": fit, "held_out": held_out}
    else:
        distinct = fit[:1024]
        counts_of = torch.tensor([[4, 1], [1, 0], [0, 1]])
        tensors |= {"rows": distinct, "row_counts": counts_of[torch.arange(len(distinct)) % len(counts_of)]}
    return {f"{group.name}.{name}": tensor.contiguous() for name, tensor in tensors.items()}


@cache
def rows(count: int, width: int) -> Tensor:
    """Correlated tokens with a few loud channels, bf16 `[count, width]`."""
    return loud_tokens(count, width, torch.Generator().manual_seed(width))


def measured(
    folder: Path,
    config: dict[str, Any],
    counts: tuple[int, int],
    how: dict[str, str],
    commands: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """The usage of every one of `commands` on a model of `config` in the new `folder`, which is removed again."""
    folder.mkdir()
    model, stats, weights = (folder / name for name in ("model", "stats", "weights"))
    write_model(model, config)
    write_stats(stats, open_source(str(model)), counts)
    options = [f"--{name}={value}" for name, value in how.items()]
    usage: dict[str, Any] = {}
    for index, (name, (command, *method)) in enumerate(commands.items()):
        output = folder / f"output-{index}"
        inputs = ["--model", model] if command == "smooth" else ["--weights", weights]
        if command == "smooth" or "auto" in method:
            inputs += ["--stats", stats]
        usage[name] = run_apart(f"vq-algos {command}", *inputs, *method, *options, "-o", output)["usage"]
        weights = output if command == "smooth" else weights
    shutil.rmtree(folder)
    return usage


def main(
    few: Annotated[int, typer.Option(help="Blocks of the smaller model.")] = 2,
    more: Annotated[int, typer.Option(help="Blocks of the larger model.")] = 6,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    scheme: Annotated[str, typer.Option(help="int8 or fp8.")] = "int8",
    scale: Annotated[int, typer.Option(help="Divide every size by this.")] = 1,
    method: Annotated[
        list[str] | None, typer.Option(help="smoothquant, auto or auto for ComfyUI; repeatable.  [default: all]")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to write; needs about 5 GB a block.")] = None,
) -> None:
    """Measure and print one table."""
    commands = {name: command for name, command in COMMANDS.items() if name.split(",")[0] in (method or COMMANDS)}
    table = Table(title=f"Blocks of width {HEAD_DIM * max(1, HEADS // scale)}, {scheme}, on {device}")
    columns = (f"{few} blocks, s", f"{more} blocks, s", "a further one, s", f"{BLOCKS} blocks, min")
    for column in ("command", *columns, "host, GiB", "device, GiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    counts = (FIT // scale, HELD_OUT // scale)
    how = {"scheme": scheme, "device": device}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        run_folder = Path(temporary) / "run"
        by_size = [measured(run_folder, transformer_config(size, scale), counts, how, commands) for size in (few, more)]
    for name in commands:
        of_few, of_more = (usage[name] for usage in by_size)
        further = (of_more["seconds"] - of_few["seconds"]) / (more - few)
        minutes = (of_more["seconds"] + (BLOCKS - more) * further) / 60
        seconds = (f"{of_few['seconds']:.1f}", f"{of_more['seconds']:.1f}", f"{further:.2f}", f"{minutes:.1f}")
        memory = (f"{of_more[f'{place}_peak_bytes'] / 2**30:.2f}" for place in ("host", "device"))
        table.add_row(name, *seconds, *memory)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
