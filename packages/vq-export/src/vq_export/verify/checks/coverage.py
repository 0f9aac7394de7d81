"""Whether a checkpoint holds exactly what LightX2V reads, and whether its index is right."""

from collections.abc import Iterator
from pathlib import Path

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, ConvertedTransformer
from vq_core.files.tensor_file import TensorInfo, read_header
from vq_core.files.tensor_folder import INDEX_FILE
from vq_export.verify.checks.configs import OLD, json_or_empty, run_config_files
from vq_export.verify.checks.lightx2v_reads import Read, tensors_read

Found = dict[str, tuple[str, TensorInfo]]
"""Tensor → the file that holds it, and its entry in the header."""


def coverage_problems(checkpoint: ConvertedCheckpoint) -> Iterator[str]:
    """Tensors that are missing, duplicate, extra, of the wrong dtype or shape or in the wrong file; a wrong index.

    As in LightX2V, every file of the folder counts, whether the index lists it or not.
    """
    for name, component in checkpoint.components.items():
        folder = checkpoint.artifact.path / checkpoint.artifact.manifest.components[name].folder
        found: Found = {}
        for path in sorted(folder.glob("*.safetensors")):
            for tensor, info in read_header(path).items():
                if tensor in found:
                    first = found[tensor][0]
                    yield f"`{tensor}` is in {first} and in {path.name}: LightX2V takes whichever it reads last."
                found[tensor] = (path.name, info)
        # Run configs read mostly the same tensors, so most sentences come more than once.
        yield from dict.fromkeys(_all_problems(checkpoint, component, folder, found))
        if json_or_empty(folder / INDEX_FILE).get("weight_map") != {
            tensor: file for tensor, (file, _) in found.items()
        }:
            yield f"{folder / INDEX_FILE} does not say where the tensors are."


def _all_problems(
    checkpoint: ConvertedCheckpoint, component: ConvertedTransformer, folder: Path, found: Found
) -> Iterator[str]:
    config = checkpoint.family.native_config(component.config)
    for path in run_config_files(checkpoint):
        if path.parent.name != OLD and (run_config := json_or_empty(path)):
            # LightX2V lets config.json overrule the run config.
            merged = {"model_cls": "", "task": ""} | run_config | config
            reads = tensors_read(merged, checkpoint.scheme, smoothed=checkpoint.has_gains)
            yield from _read_problems(reads, folder, found)
    for tensor, (file, info) in found.items():
        entry = component.entries.get(tensor)
        if entry is not None and file != f"{entry.shard}.safetensors":
            yield f"`{tensor}` is in {file} and belongs in {entry.shard}.safetensors."
        if entry is not None and info.shape != entry.shape:
            yield f"`{tensor}` is {list(info.shape)} and should be {list(entry.shape)}."


def _read_problems(reads: dict[str, Read], folder: Path, found: Found) -> Iterator[str]:
    for tensor, read in reads.items():
        if tensor not in found:
            yield f"`{tensor}` is missing in {folder}."
            continue
        _, info = found[tensor]
        if not read.fits(info.shape):
            wanted = ", ".join("any" if width is None else str(width) for width in read.shape)
            yield f"`{tensor}` is {list(info.shape)} and should be [{wanted}]."
        if info.dtype not in read.dtypes:
            yield f"`{tensor}` is {info.dtype} and should be {' or '.join(read.dtypes)}."
    for tensor in sorted(found.keys() - reads.keys()):
        yield f"`{tensor}` in {found[tensor][0]} is nothing that LightX2V reads."
