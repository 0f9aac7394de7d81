"""An encoder as it comes, from a diffusers pipeline or a native file, checked against what LightX2V's module has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.model.pipeline_parts import read_parts
from vq_core.model.source import resolve_model
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.sampling.pretrained import require_sizes
from vq_export.encoders import ENCODERS, Encoder, Shape
from vq_export.encoders.readers import TensorReader, open_reader

PIPELINE_FILES = ["model_index.json", *(f"{encoder.FOLDER}/*" for encoder in ENCODERS.values())]
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class EncoderSource:
    """An encoder's tensors by native name.

    Attributes:
        shapes: of every tensor that LightX2V's module has.
        parts: by native name, the tensors of `reader` whose rows make it up; none for a placeholder.
    """

    encoder: Encoder
    shapes: Mapping[str, Shape]
    reader: TensorReader
    parts: Mapping[str, tuple[str, ...]]

    @property
    def placeholders(self) -> list[str]:
        """Tensors that LightX2V requires and nothing reads, where the source lacks them."""
        return [name for name, parts in self.parts.items() if not parts]

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The native tensor `name` in pieces of some rows; zeros for a placeholder."""
        if not self.parts[name]:
            yield torch.zeros(self.shapes[name])
        for part in self.parts[name]:
            yield from self.reader.pieces(part)


def open_encoders(model: str | None, files: Mapping[str, Location]) -> list[EncoderSource]:
    """The encoders of the diffusers pipeline `model`; those in `files`, by key, take the place of the pipeline's.

    Raises:
        VqError: nothing is named, the pipeline has no encoders or others, or an encoder does not fit.
    """
    sources = {key: open_file(local_copy(path), ENCODERS[key]) for key, path in files.items()}
    if model is not None:
        for key, folder in _folders(model).items():
            if key not in sources:
                sources[key] = open_folder(folder, ENCODERS[key])
    if not sources:
        raise VqError("No encoder is named: give a pipeline as --model, or files as --t5 and --clip.")
    return [sources[key] for key in ENCODERS if key in sources]


def _folders(model: str) -> dict[str, Path]:
    path = resolve_model(model, only=PIPELINE_FILES)
    if not is_there(path / "model_index.json"):
        raise VqError(
            f"{path} is not a diffusers pipeline (it has no model_index.json): give one, or name the encoders' files "
            "as --t5 and --clip."
        )
    listed = read_parts(path)
    folders: dict[str, Path] = {}
    for key, encoder in ENCODERS.items():
        name = listed.get(encoder.FOLDER)
        if name is None:
            continue
        if name != encoder.CLASS:
            raise VqError(
                f"The {encoder.FOLDER} of {path} is a {name}, and LightX2V's is a {encoder.CLASS}: use Wan's."
            )
        folders[key] = path / encoder.FOLDER
    if not folders:
        raise VqError(f"{path} lists no encoder in model_index.json: give a whole pipeline.")
    return folders


def open_folder(folder: Path, encoder: Encoder) -> EncoderSource:
    """An encoder in transformers' layout.

    Raises:
        VqError: its function is not LightX2V's, or a tensor is missing, unknown, misshapen or quantized.
    """
    where = folder / "config.json"
    require_sizes(where)
    config = read_json(where)
    try:
        shapes = encoder.shapes_of_config({key: it for key, it in config.items() if type(it) is int and it > 0})
    except KeyError as error:
        raise VqError(
            f"{where} lacks a whole number above 0 as {error}: use the file that came with the model."
        ) from None
    for key, value in encoder.FUNCTION.items():
        if config.get(key) != value:
            raise VqError(
                f"{where} says {key} {config.get(key)!r}, and LightX2V's {encoder.CLASS} runs {value!r}: use Wan's "
                f"{encoder.FOLDER}."
            )
    reader = open_reader(folder)
    there = {own: name for name in reader.specs if (own := encoder.own_name(name)) is not None}
    parts = {name: encoder.in_transformers(name) for name in shapes}
    _check(encoder, reader, shapes, parts, there)
    return EncoderSource(encoder, shapes, reader, {name: tuple(there[it] for it in its) for name, its in parts.items()})


def open_file(path: Path, encoder: Encoder) -> EncoderSource:
    """An encoder in a native file, `.pth` or safetensors.

    Raises:
        VqError: it is not this encoder, or a tensor is missing, unknown, misshapen or quantized.
    """
    reader = open_reader(path)
    there = {name: name for name in reader.specs if not name.startswith(encoder.LEFT_OUT)}
    try:
        shapes = encoder.shapes_of_tensors({name: reader.specs[name].shape for name in there})
    except (KeyError, ValueError, IndexError) as error:
        raise VqError(
            f"{path} is not the file of a {encoder.KEY} encoder ({error}): give Wan's {encoder.FILE}*."
        ) from None
    parts: dict[str, tuple[str, ...]] = {name: (name,) for name in shapes}
    _check(encoder, reader, shapes, parts, there)
    return EncoderSource(encoder, shapes, reader, parts)


def _check(
    encoder: Encoder,
    reader: TensorReader,
    shapes: Mapping[str, Shape],
    parts: Mapping[str, tuple[str, ...]],
    there: Mapping[str, str],
) -> None:
    """`there` maps the names that `parts` uses to the names in the files."""
    for name in there.values():
        spec = reader.specs[name]
        if spec.dtype not in FLOATS or name.endswith((".weight_scale", ".scale_weight")):
            raise VqError(
                f"{reader.where} is quantized already (`{name}` is {spec.dtype}): give it in full or half precision."
            )
    for native, names in parts.items():
        for name in names:
            if name not in there:
                raise VqError(f"{reader.where} lacks the tensor `{name}`: get the missing file.")
            found, expected = reader.specs[there[name]].shape, shapes[native]
            rows = () if not expected else (expected[0] // len(names), *expected[1:])
            if not encoder.QUANTIZED.fullmatch(native):
                found, rows = _without_leading_ones(found), _without_leading_ones(rows)
            if found != rows:
                raise VqError(
                    f"`{name}` in {reader.where} is {list(found)} and should be {list(rows)}: use Wan's encoder."
                )
    unknown = sorted(set(there) - {name for names in parts.values() for name in names})
    if unknown:
        raise VqError(
            f"`{unknown[0]}` in {reader.where} is not part of the encoder ({len(unknown)} such tensors): use Wan's."
        )


def _without_leading_ones(shape: Shape) -> Shape:
    """CLIP's embeddings have a batch dimension in the native layout and none in transformers'."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape
