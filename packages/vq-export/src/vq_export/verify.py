"""Cold verification of a converted checkpoint: re-read from disk, and held against what LightX2V will read.

Structure is compared with the table that the architecture implies, not with what the exporter says it wrote.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import RUN_CONFIG_FOLDER, Checkpoint, CheckpointComponent, Entry, Role
from vq_core.errors import GateFailed
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.progress import progress
from vq_core.source import Source
from vq_core.tensor_file import TensorInfo, read_header
from vq_core.tensor_folder import INDEX_FILE
from vq_core.topology import block_of
from vq_export.fidelity import linear_errors, require_made_from
from vq_export.quantized_source import is_imported
from vq_export.run_configs import RUN_SCRIPT
from vq_export.targets.lightx2v import CONFIG_FILE, QUANT_METHOD

PLAIN_DTYPES = ("F32", "BF16", "F16")
CODE_DTYPE_NAMES = {torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3"}
MAX_EXCESS_DB = 15.0
"""A rounder that minimises another error than the weight's may leave some dB more than rounding to nearest; a wrong
scale, gain or weight leaves more than this, up to everything that the 8 bits had resolved (30 dB)."""
MAX_LISTED = 20


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        problems: one sentence each; empty where the checkpoint is sound.
        tensors: how many were read.
        weight_snr_db: by component and linear, where a model was given to compare with.
    """

    problems: list[str]
    tensors: int
    weight_snr_db: dict[str, dict[str, float]] = field(default_factory=dict)

    def rows(self) -> dict[str, str]:
        """Summary: the problems, and by place in the block how far the linears are from the source."""
        rows = {"tensors": str(self.tensors), "problems": str(len(self.problems))}
        rows |= {f"problem {number}": problem for number, problem in enumerate(self.problems[:MAX_LISTED], 1)}
        for name, snrs in self.weight_snr_db.items():
            places: dict[str, dict[str, float]] = {}
            for linear, snr in snrs.items():
                places.setdefault(linear.removeprefix(f"blocks.{block_of(linear)}."), {})[linear] = snr
            for place, by_linear in places.items():
                lowest = min(by_linear, key=by_linear.__getitem__)
                rows[f"{name} {place}"] = (
                    f"SNR {median(by_linear.values()):.1f} dB, "
                    f"lowest {by_linear[lowest]:.1f} dB (block {block_of(lowest)})"
                )
        return rows

    def as_json(self) -> dict[str, Any]:
        """All of it; JSON has no infinity, so null is the SNR of codes that hold the weight exactly."""
        snrs = {
            name: {linear: snr if math.isfinite(snr) else None for linear, snr in linears.items()}
            for name, linears in self.weight_snr_db.items()
        }
        return {"problems": self.problems, "tensors": self.tensors, "weight_snr_db": snrs}


def verify(checkpoint: Checkpoint, source: Source | None = None, *, device: str = "cpu") -> Verification:
    """Re-read every file of `checkpoint`; with `source`, compare each linear with the weight it was rounded from.

    Raises:
        VqError: a file is damaged, or `source` is another model.
    """
    if source is not None:
        require_made_from(checkpoint, source)
    problems = [*_file_problems(checkpoint), *_config_problems(checkpoint)]
    read = 0
    total = sum(component.topology.num_blocks + 1 for component in checkpoint.components.values())
    with progress("verify", total, "shard") as advance:
        for name, component in checkpoint.components.items():
            folder = checkpoint.artifact.path / checkpoint.artifact.manifest.components[name].folder
            problems += _structure_problems(folder, component, CODE_DTYPE_NAMES[CODE_DTYPE[checkpoint.scheme.weight]])
            for shard in component.topology.shards():
                present, shard_problems = _value_problems(checkpoint, name, component, shard, device)
                read += present
                problems += shard_problems
                advance()
    if source is None or problems:
        return Verification(problems, read)
    errors = linear_errors(checkpoint, source, device=device)
    problems = [
        f"`{linear}` of {name} is not the source's weight: {error.snr_db:.1f} dB SNR, and a row or column with "
        f"{error.excess_db:.0f} dB more error than rounding leaves."
        for name, linears in errors.items()
        for linear, error in linears.items()
        if not error.excess_db <= MAX_EXCESS_DB
    ]
    snrs = {name: {linear: error.snr_db for linear, error in linears.items()} for name, linears in errors.items()}
    return Verification(problems, read, snrs)


def _file_problems(checkpoint: Checkpoint) -> Iterator[str]:
    """Files that nothing reads, or that LightX2V would read besides ours; digests of those that hold no tensors."""
    known = {CONFIG_FILE, RUN_SCRIPT}
    for name, component in checkpoint.components.items():
        folder = Path(checkpoint.artifact.manifest.components[name].folder)
        files = {INDEX_FILE, *(f"{shard}.safetensors" for shard in component.topology.shards())}
        known |= {(folder / file).as_posix() for file in files}
    for file in checkpoint.artifact.manifest.files:
        if file not in known and not file.startswith(f"{RUN_CONFIG_FOLDER}/"):
            yield f"{checkpoint.artifact.path / file} is no part of a checkpoint."
        elif not file.endswith(".safetensors"):
            checkpoint.artifact.verify_file(file)


def _structure_problems(folder: Path, component: CheckpointComponent, code_dtype: str) -> Iterator[str]:
    """Tensors that are missing, twice, extra, of the wrong dtype or shape; an index that says otherwise."""
    found: dict[str, tuple[str, TensorInfo]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, info in read_header(path).items():
            if name in found:
                yield f"`{name}` is in {found[name][0]} and in {path.name}: LightX2V takes whichever it reads last."
            found[name] = (path.name, info)
    for name, entry in component.entries.items():
        if name in found:
            yield from (f"`{name}` is {problem}." for problem in _placement_problems(entry, *found[name], code_dtype))
        else:
            yield f"`{name}` is missing in {folder}."
    for name in sorted(found.keys() - component.entries.keys()):
        yield f"`{name}` in {found[name][0]} is nothing that LightX2V reads."
    if _read_json(folder / INDEX_FILE).get("weight_map") != {name: file for name, (file, _) in found.items()}:
        yield f"{folder / INDEX_FILE} does not say where the tensors are."


def _placement_problems(entry: Entry, file: str, info: TensorInfo, code_dtype: str) -> Iterator[str]:
    if file != f"{entry.shard}.safetensors":
        yield f"in {file} and belongs in {entry.shard}.safetensors"
    if info.shape != entry.shape:
        yield f"{list(info.shape)} and should be {list(entry.shape)}"
    if info.dtype not in _dtypes(entry, code_dtype):
        yield f"{info.dtype} and should be {' or '.join(_dtypes(entry, code_dtype))}"


def _dtypes(entry: Entry, code_dtype: str) -> tuple[str, ...]:
    match entry.role:
        case Role.CODES:
            return (code_dtype,)
        case Role.SCALE | Role.GAIN:
            return ("F32",)
        case Role.PLAIN:
            return PLAIN_DTYPES


def _value_problems(
    checkpoint: Checkpoint, name: str, component: CheckpointComponent, shard: str, device: str
) -> tuple[int, list[str]]:
    """How many of a shard's tensors were read, and what is wrong with their values."""
    table = checkpoint.artifact.manifest.components[name].tensors
    own = {tensor: entry for tensor, entry in component.entries.items() if entry.shard == shard and tensor in table}
    tensors = checkpoint.artifact.tensors(name, own, device)
    imported = is_imported(checkpoint.artifact.manifest)
    problems = [
        f"`{tensor}` of {name} {problem}."
        for tensor, entry in own.items()
        for problem in _tensor_problems(entry, tensors[tensor], imported=imported)
    ]
    gains: dict[str, list[str]] = {}
    for tensor, entry in own.items():
        if entry.role is Role.GAIN:
            gains.setdefault(entry.origin, []).append(tensor)
    for first, *others in gains.values():
        problems += [
            f"`{first}` and `{other}` of {name} differ: scale and shift would be smoothed differently."
            for other in others
            if not torch.equal(tensors[first], tensors[other])
        ]
    return len(tensors), problems


def _tensor_problems(entry: Entry, tensor: Tensor, *, imported: bool) -> Iterator[str]:
    if tensor.dtype == torch.int8:
        if entry.role is Role.CODES and not imported and bool((tensor == -128).any()):
            yield "holds the code −128, which symmetric INT8 never has"
        return
    values = tensor.float()
    if not torch.isfinite(values).all():
        yield "holds NaN or infinite values"
    elif entry.role in (Role.SCALE, Role.GAIN):
        if not (values > 0).all():
            yield "holds values that are not positive"
        if not is_bf16(values).all():
            yield "holds values that LightX2V's cast to bfloat16 would change"


def _config_problems(checkpoint: Checkpoint) -> Iterator[str]:
    path = checkpoint.artifact.path / CONFIG_FILE
    config = _read_json(path)
    component = next(iter(checkpoint.components.values()))
    for key, value in checkpoint.family.native_config(component.config).items():
        if config.get(key) != value:
            yield f"{path} says {key}={config.get(key)!r} and the model has {value!r}."
    # With two experts it is the run config that LightX2V takes the method from.
    for file in (path, *sorted((path.parent / RUN_CONFIG_FOLDER).rglob("*.json"))):
        method = _read_json(file).get("quant_method")
        if (method == QUANT_METHOD) != checkpoint.has_gains:
            state = "has gains" if checkpoint.has_gains else "has no gains"
            yield (
                f"{file} says quant_method={method!r} while the checkpoint {state}: "
                f"LightX2V applies gains exactly when it is {QUANT_METHOD!r}."
            )


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is none, which the checks of its keys then tell."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def enforce(found: Verification, path: Path) -> None:
    """Fail where anything is wrong.

    Raises:
        GateFailed: with the number of problems and the first of them.
    """
    if found.problems:
        number = f"{len(found.problems)} problems, the first" if len(found.problems) > 1 else "a problem"
        raise GateFailed(f"{path} has {number}: {found.problems[0]} Export it again.")
