"""Quantized encoders, as the files that LightX2V loads."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorSpec, load_tensors, new_file, read_header
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.numerics.scheme import QuantScheme
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.runtime.progress import progress
from vq_core.store.writer import Header, create_artifact
from vq_export.encoders.source import EncoderSource
from vq_export.model.quantized_model import TOOL
from vq_export.writing.overlap import overlap
from vq_export.writing.tensor_stream import TensorStream, stream_tensors

KIND = "lightx2v-encoders"
FORMAT = 1
BACKEND = "vllm"
"""LightX2V's kernels in the keys that are printed; with cpu_offload it accepts no scheme without a backend's name."""


def file_name(source: EncoderSource, scheme: QuantScheme, *, pth: bool) -> str:
    """The file's name. LightX2V finds `.pth` by this name; a safetensors file has to be named in its run config."""
    return f"{source.encoder.FILE}-{scheme.name}.{'pth' if pth else 'safetensors'}"


def export_encoders(
    sources: Sequence[EncoderSource],
    scheme: QuantScheme,
    output: Location,
    *,
    model: str,
    pth: bool = False,
    device: str = "cpu",
    resume: bool = False,
) -> None:
    """Write a file for each of `sources` to the folder `output`; `model` is their name in the manifest.

    Host memory: a few copies of 64 MiB of a tensor, whatever its size.

    Raises:
        VqError: a value is not finite, or too large for the half precision that LightX2V loads.
    """
    said: dict[str, JsonValue] = {"scheme": scheme.name, "method": "rtn", "rounding": "nearest-even"}
    placeholders: dict[str, JsonValue] = {it.encoder.KEY: list(it.placeholders) for it in sources if it.placeholders}
    header = Header(
        KIND, FORMAT, TOOL, "wan", model, components={}, settings={**said, "placeholders": placeholders, "pth": pth}
    )
    total = sum(len(source.shapes) for source in sources)
    with create_artifact(output, header, resume=resume) as writer, progress("encoders", total, "tensor") as advance:
        for source in sources:
            file = file_name(source, scheme, pth=pth)
            if writer.has(file):
                continue
            metadata = {"tool": TOOL, "model": model, "settings": json.dumps(said)}
            metadata["placeholders"] = json.dumps(source.placeholders)
            write = partial(_write_tensor, source, scheme, device)
            with (
                _safetensors_of(writer.draft(file)) as path,
                stream_tensors(path, _specs(source, scheme), metadata) as stream,
            ):
                overlap(partial(write, stream), source.shapes, lambda _: advance())
            writer.adopt(file)


def run_config_keys(
    sources: Sequence[EncoderSource], scheme: QuantScheme, output: Location, *, pth: bool
) -> dict[str, JsonValue]:
    """The keys with which a run config of LightX2V loads the files in `output`."""
    keys: dict[str, JsonValue] = {}
    for source in sources:
        key = source.encoder.KEY
        keys[f"{key}_quantized"] = True
        keys[f"{key}_quant_scheme"] = f"{scheme.name}-{BACKEND}"
        keys[f"{key}_quantized_ckpt"] = str(local_copy(output).absolute() / file_name(source, scheme, pth=pth))
    return keys


def next_steps(keys: Mapping[str, JsonValue]) -> str:
    """Tells where to put the `keys` of a run config."""
    lines = json.dumps(keys, indent=2).splitlines()[1:-1]
    return "put these keys into the run config:\n" + "\n".join(lines)


@dataclass(frozen=True)
class WrittenEncoder:
    """One exported file; `size` in bytes; `loads` says whether it has the sizes that LightX2V builds."""

    file: str
    size: int
    loads: bool


def written(
    sources: Sequence[EncoderSource], scheme: QuantScheme, output: Location, *, pth: bool
) -> list[WrittenEncoder]:
    """What was written of `sources` to the folder `output`."""
    folder, files = local_copy(output), [file_name(source, scheme, pth=pth) for source in sources]
    return [
        WrittenEncoder(file, (folder / file).stat().st_size, source.shapes == source.encoder.LIGHTX2V_SHAPES)
        for source, file in zip(sources, files, strict=True)
    ]


def rows(written_encoders: Sequence[WrittenEncoder]) -> dict[str, str]:
    """The lines of the summary."""
    lines = {}
    for number, it in enumerate(written_encoders, 1):
        unfit = "" if it.loads else "; LightX2V cannot load it: it builds other sizes"
        lines[f"file {number}"] = f"{it.file}, {it.size / 1e9:.3g} GB{unfit}"
    return lines


@contextmanager
def _safetensors_of(path: Path) -> Iterator[Path]:
    """Where to write safetensors: `path` itself, or a file beside it, which is then saved to `path` as `.pth`."""
    if path.suffix == ".safetensors":
        yield path
        return
    beside = path.with_name(f".{path.stem}.safetensors")
    yield beside
    with new_file(path) as file:
        torch.save(load_tensors(beside, sorted(read_header(beside))), file)
    beside.unlink()


def _write_tensor(source: EncoderSource, scheme: QuantScheme, device: str, stream: TensorStream, name: str) -> None:
    shape = source.shapes[name]
    for piece in source.pieces(name):
        if source.encoder.QUANTIZED.fullmatch(name):
            quantized = quantize_weight(piece.to(device), scheme.weight)
            if not torch.isfinite(quantized.scale).all():
                require_finite(piece, name, source.reader.where)
            stream.append(name, quantized.codes)
            stream.append(f"{name}_scale", quantized.scale)
        else:
            require_finite(piece, name, source.reader.where)
            # A tensor that lacks dimensions of size one is small and comes in one piece.
            _append(stream, source, name, piece if piece.ndim == len(shape) else piece.reshape(shape))


def _append(stream: TensorStream, source: EncoderSource, name: str, piece: Tensor) -> None:
    cast = piece.to(source.encoder.DTYPE)
    if not torch.isfinite(torch.stack(torch.aminmax(cast))).all():
        largest = float(piece.abs().max())
        raise VqError(
            f"`{name}` in {source.reader.where} has the value {largest:g}, which {source.encoder.DTYPE} cannot hold: "
            "LightX2V cannot run this encoder."
        )
    stream.append(name, cast)


def _specs(source: EncoderSource, scheme: QuantScheme) -> dict[str, TensorSpec]:
    specs: dict[str, TensorSpec] = {}
    for name, shape in source.shapes.items():
        if source.encoder.QUANTIZED.fullmatch(name):
            specs[name] = TensorSpec(CODE_DTYPE[scheme.weight], shape)
            specs[f"{name}_scale"] = TensorSpec(torch.float32, (shape[0], 1))
        else:
            specs[name] = TensorSpec(source.encoder.DTYPE, shape)
    return specs
