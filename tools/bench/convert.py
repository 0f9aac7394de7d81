"""Conversion of a Wan2.1-1.3B-shaped random checkpoint: seconds and peak memory, beside `cp` and the plain way.

The plain way loads the whole model, quantizes every linear with the same arithmetic and saves one file. Each runs in a
process of its own; memory is that process's peak above one that has only imported the same modules.
"""

import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from bench.random_model import write_model
from vq_core.families import wan
from vq_core.meter import host_peak_bytes
from vq_core.numerics.quantize import quantize_weight
from vq_core.scheme import Rounding, scheme_named
from vq_core.source import open_source
from vq_export.quantized_model import from_source
from vq_export.targets import lightx2v

CONFIG = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
}


def convert(model: Path, output: Path, scheme: str) -> None:
    """Our conversion."""
    lightx2v.export(
        from_source(open_source(str(model)), scheme_named(scheme), Rounding.NEAREST_EVEN), output, resume=False
    )


def convert_plainly(model: Path, output: Path, scheme: str) -> None:
    """Everything in memory, then one file."""
    source = open_source(str(model)).components["transformer"]
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(model.glob("*.safetensors")):
        tensors |= load_file(path)
    for linear in source.topology.linears:
        codes, scale = quantize_weight(tensors[f"{linear.name}.weight"], scheme_named(scheme).weight)
        tensors[f"{linear.name}.weight"], tensors[f"{linear.name}.weight_scale"] = codes, scale
    output.mkdir()
    save_file({wan.to_native(name): tensor for name, tensor in tensors.items()}, output / "model.safetensors")


def copy(model: Path, output: Path, scheme: str) -> None:
    """What the disk alone costs."""
    subprocess.run(["cp", "-r", str(model), str(output)], check=True)


def nothing(model: Path, output: Path, scheme: str) -> None:
    """The imports alone, whose memory is subtracted."""


def _measured(work: Callable[[Path, Path, str], None], model: Path, output: Path, scheme: str, pipe: Any) -> None:
    start = time.monotonic()
    work(model, output, scheme)
    seconds = time.monotonic() - start
    pipe.send((seconds, host_peak_bytes()))


def measure(work: Callable[[Path, Path, str], None], model: Path, output: Path, scheme: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of `work` in a fresh process."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(work, model, output, scheme, sender))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{work.__name__} failed")
    shutil.rmtree(output, ignore_errors=True)
    result: tuple[float, int] = receiver.recv()
    return result


def main(
    layers: Annotated[int, typer.Option(help="Blocks; 30 is Wan2.1-1.3B.")] = 30,
    repeats: Annotated[int, typer.Option(help="Runs of each; the median is shown.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to write; needs about 6 GB.")] = None,
) -> None:
    """Measure and print one table."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model, output = Path(temporary) / "model", Path(temporary) / "output"
        write_model(model, CONFIG | {"num_layers": layers})
        size = sum(path.stat().st_size for path in model.iterdir())
        table = Table(title=f"Conversion of {size / 1e9:.2f} GB of bfloat16, {torch.get_num_threads()} threads")
        for column in ("", "scheme", "s", "MiB above imports"):
            table.add_column(column, justify="left" if column in ("", "scheme") else "right")
        _, imports = measure(nothing, model, output, "int8")
        for work, scheme in ((copy, "int8"), *((w, s) for s in ("int8", "fp8") for w in (convert, convert_plainly))):
            runs = sorted(measure(work, model, output, scheme) for _ in range(repeats))
            seconds, peak = runs[len(runs) // 2]
            label = "" if work is copy else scheme
            table.add_row(work.__name__, label, f"{seconds:.1f}", f"{max(0, peak - imports) / 2**20:.0f}")
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
