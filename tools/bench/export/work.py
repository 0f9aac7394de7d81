"""The tasks that `make bench-export` measures: each prepares, untimed, and returns the function to time."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.families import wan
from vq_core.model.source import open_source
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import Rounding, scheme_named
from vq_export.model.quantized_model import from_source
from vq_export.targets import lightx2v
from vq_export.writing.overlap import overlap

Timed = Callable[[], None]
Work = Callable[[Path, Path, str], Timed]


def nothing(model: Path, output: Path, scheme: str) -> Timed:
    """The imports alone, whose memory is subtracted."""
    return lambda: None


def copy(model: Path, output: Path, scheme: str) -> Timed:
    """`cp -r`, which leaves what it wrote in the page cache."""

    def timed() -> None:
        subprocess.run(["cp", "-r", str(model), str(output)], check=True)

    return timed


def copy_to_disk(model: Path, output: Path, scheme: str) -> Timed:
    """`cp -r` and `sync`: what it wrote is on the disk, as an export is."""
    copied = copy(model, output, scheme)

    def timed() -> None:
        copied()
        os.sync()

    return timed


def read(model: Path, output: Path, scheme: str) -> Timed:
    """Every tensor read into memory by as many workers, and thrown away."""
    source = open_source(str(model)).components["transformer"]

    def load(name: str) -> None:
        source.plain([name])

    return lambda: overlap(load, source.topology.tensors, lambda _: None)


def digest(model: Path, output: Path, scheme: str) -> Timed:
    """SHA-256 of as many bytes as codes are written, by as many workers."""
    contents = _contents(model)
    return lambda: overlap(lambda content: hashlib.sha256(content).digest(), contents, lambda _: None)


def write_and_flush(model: Path, output: Path, scheme: str) -> Timed:
    """As many bytes as codes are written, a file for each linear, by as many workers; flushed beside them."""
    contents = _contents(model)
    output.mkdir()

    def write(index: int) -> int:
        descriptor = os.open(output / str(index), os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, contents[index])
        return descriptor

    def flush(descriptor: int) -> None:
        os.fsync(descriptor)
        os.close(descriptor)

    return lambda: overlap(write, range(len(contents)), flush)


def _contents(model: Path) -> list[bytes]:
    """Bytes of the size of each linear's codes; linears of one size share them."""
    linears = open_source(str(model)).components["transformer"].topology.linears
    sizes = [linear.out_features * linear.in_features for linear in linears]
    content = {size: os.urandom(size) for size in set(sizes)}
    return [content[size] for size in sizes]


def arithmetic(model: Path, output: Path, scheme: str) -> Timed:
    """Every weight quantized in memory, by as many workers; nothing is read or written, the codes are thrown away."""
    source, fmt = open_source(str(model)).components["transformer"], scheme_named(scheme).weight
    names = [f"{linear.name}.weight" for linear in source.topology.linears]
    weights = [tensor.clone() for tensor in source.plain(names).values()]  # a clone is in memory, not mapped

    def timed() -> None:
        overlap(lambda weight: quantize_weight(weight, fmt), weights, lambda _: None)

    return timed


def convert(model: Path, output: Path, scheme: str) -> Timed:
    """`vq-export lightx2v --model`."""

    def timed() -> None:
        source = open_source(str(model))
        lightx2v.export(from_source(source, scheme_named(scheme), Rounding.NEAREST_EVEN), output)

    return timed


def convert_plainly(model: Path, output: Path, scheme: str) -> Timed:
    """Everything into memory, quantized with the same arithmetic, saved as one file; no digest, not flushed."""

    def timed() -> None:
        source, fmt = open_source(str(model)).components["transformer"], scheme_named(scheme).weight
        tensors: dict[str, Tensor] = {}
        for path in sorted(model.glob("*.safetensors")):
            tensors |= load_file(path)

        def quantize(name: str) -> None:
            tensors[name], tensors[f"{name}_scale"], *_ = quantize_weight(tensors[name], fmt)

        overlap(quantize, [f"{linear.name}.weight" for linear in source.topology.linears], lambda _: None)
        output.mkdir()
        save_file({wan.to_native(name): tensor for name, tensor in tensors.items()}, output / "model.safetensors")

    return timed
