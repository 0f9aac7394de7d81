"""A model of another tool in the place of an artifact: it is told by name, with the command that converts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vq_core.errors import VqError
from vq_core.model.already_quantized import Quantizer, quantizer_of, refuse_quantized
from vq_core.model.source_gains import SourceGains
from vq_core.model.source_layout import read_transformer, transformer_paths
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists, local_copy
from vq_core.store.manifest import FILE_NAME

WRITTEN_BY_LLMC = ("lightx2v_quant_model", "transformed_model")
"""The folders that LLMC makes in its `save_path`."""


@contextmanager
def models_told(location: Location) -> Iterator[None]:
    """Let an error of opening the artifact in `location` say so if a model that others have quantized lies there.

    Raises:
        VqError: says by whom, and which command converts it.
    """
    try:
        yield
    except VqError:
        if exists(location) and not exists(location / FILE_NAME):
            path = local_copy(location)
            for place in (path, *(path / name for name in WRITTEN_BY_LLMC)):
                _refuse_model(place)
        raise


def _refuse_model(path: Path) -> None:
    try:
        found = [read_transformer(place) for place in transformer_paths(path).values()] if path.exists() else []
        smoothed = any(SourceGains(part, part.family.topology(part.config)).present for part in found)
    except VqError:  # no model either
        return
    for part in found:
        quantizer = quantizer_of(part.infos, native=part.native)
        if quantizer is None and smoothed:
            raise VqError(
                f"{path} is a model that LLMC has smoothed, not converted yet: run `vq-export lightx2v --model {path} "
                "--scheme int8 -o checkpoint` (or fp8), and give that checkpoint."
            )
        if quantizer is not None and quantizer[0] in (Quantizer.LLMC, Quantizer.LIGHTX2V):
            raise VqError(
                f"{path} is quantized {quantizer[0].value[0]}, not converted yet: run `vq-export lightx2v --model "
                f"{path} -o checkpoint`, and give that checkpoint."
            )
        refuse_quantized(part.where, part.infos, native=part.native)
