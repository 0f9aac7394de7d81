"""Cold verification of a converted checkpoint: re-read from disk, and held against what LightX2V will read.

Structure is compared with the table that the architecture implies, not with what the exporter says it wrote.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import Checkpoint, CheckpointComponent, Entry, Role
from vq_core.errors import GateFailed
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.rounding import CODE_DTYPE
from vq_core.progress import progress
from vq_core.source import INDEX_FILE, Source
from vq_core.tensor_file import read_header
from vq_export.fidelity import linear_snr_db
from vq_export.targets.lightx2v import QUANT_METHOD

PLAIN_DTYPES = ("F32", "BF16", "F16")
CODE_DTYPE_NAMES = {torch.int8: "I8", torch.float8_e4m3fn: "F8_E4M3"}
MIN_WEIGHT_SNR_DB = 20.0
"""Rounding to 8 bits leaves 30 dB and more; below this a linear holds something other than the rounded weight."""
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


def verify(checkpoint: Checkpoint, source: Source | None = None, *, device: str = "cpu") -> Verification:
    """Re-read every tensor of `checkpoint`; with `source`, compare each linear with the weight it was rounded from.

    Raises:
        VqError: a file is damaged, or `source` is another model.
    """
    problems: list[str] = []
    errors: dict[str, dict[str, float]] = {}
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
    problems += _config_problems(checkpoint)
    if source is not None and not problems:
        errors = linear_snr_db(checkpoint, source, device=device)
        problems += [
            f"`{linear}` of {name} is {snr:.1f} dB away from the source's weight, which rounding does not explain."
            for name, linears in errors.items()
            for linear, snr in linears.items()
            if not snr >= MIN_WEIGHT_SNR_DB
        ]
    return Verification(problems, read, errors)


def _structure_problems(folder: Path, component: CheckpointComponent, code_dtype: str) -> Iterator[str]:
    """Tensors that are missing, twice, extra, of the wrong dtype or shape; an index that says otherwise."""
    found: dict[str, tuple[str, Any]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, info in read_header(path).items():
            if name in found:
                yield f"`{name}` is in {found[name][0]} and in {path.name}: LightX2V takes whichever it reads last."
            found[name] = (path.name, info)
    for name, entry in component.entries.items():
        if name not in found:
            yield f"`{name}` is missing in {folder}."
            continue
        file, info = found[name]
        if file != f"{entry.shard}.safetensors":
            yield f"`{name}` is in {file} and belongs in {entry.shard}.safetensors."
        if info.shape != entry.shape:
            yield f"`{name}` is {list(info.shape)} and should be {list(entry.shape)}."
        if info.dtype not in _dtypes(entry, code_dtype):
            yield f"`{name}` is {info.dtype} and should be {' or '.join(_dtypes(entry, code_dtype))}."
    for name in found.keys() - component.entries.keys():
        yield f"`{name}` in {found[name][0]} is nothing that LightX2V reads."
    index = folder / INDEX_FILE
    listed = json.loads(index.read_text())["weight_map"] if index.exists() else {}
    if listed != {name: file for name, (file, _) in found.items()}:
        yield f"{index} does not say where the tensors are."


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
    problems = [
        f"`{tensor}` of {name} {problem}."
        for tensor, entry in own.items()
        for problem in _tensor_problems(entry, tensors[tensor])
    ]
    for tensor, entry in own.items():
        twin = tensor.removesuffix(".weight") + ".bias"
        if entry.role is Role.GAIN and tensor != twin and twin in tensors and not torch.equal(tensors[tensor], tensors[twin]):
            problems.append(f"`{tensor}` and `{twin}` of {name} differ: shift and scale would be smoothed differently.")
    return len(tensors), problems


def _tensor_problems(entry: Entry, tensor: Tensor) -> Iterator[str]:
    values = tensor.float()
    if not torch.isfinite(values).all():
        yield "holds NaN or infinite values"
    elif entry.role is Role.CODES and tensor.dtype == torch.int8 and bool((values < -127).any()):
        yield "holds the code −128, which symmetric INT8 never has"
    elif entry.role in (Role.SCALE, Role.GAIN):
        if not (values > 0).all():
            yield "holds values that are not positive"
        if not is_bf16(values).all():
            yield "holds values that LightX2V's cast to bfloat16 would change"


def _config_problems(checkpoint: Checkpoint) -> Iterator[str]:
    path = checkpoint.artifact.path / "config.json"
    config: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    component = next(iter(checkpoint.components.values()))
    for key, value in checkpoint.family.native_config(component.config).items():
        if config.get(key) != value:
            yield f"{path} says {key}={config.get(key)!r} and the model has {value!r}."
    if (config.get("quant_method") == QUANT_METHOD) != checkpoint.has_gains:
        state = "has gains" if checkpoint.has_gains else "has no gains"
        yield (
            f"{path} says quant_method={config.get('quant_method')!r} while the checkpoint {state}: "
            f"LightX2V applies gains exactly when it is {QUANT_METHOD!r}."
        )


def verification_rows(found: Verification) -> dict[str, str]:
    """Summary of a verification: the problems, and the linears that are furthest from the source."""
    rows = {"tensors": str(found.tensors), "problems": str(len(found.problems))}
    rows |= {f"problem {number}": problem for number, problem in enumerate(found.problems[:MAX_LISTED], 1)}
    for name, snrs in found.weight_snr_db.items():
        worst = min(snrs, key=snrs.__getitem__)
        rows[f"weight SNR of {name}"] = (
            f"median {median(snrs.values()):.1f} dB, lowest {snrs[worst]:.1f} dB ({worst}) of {len(snrs)} linears"
        )
    return rows


def enforce(found: Verification, path: Path) -> None:
    """Fail where anything is wrong.

    Raises:
        GateFailed: with the number of problems and the first of them.
    """
    if found.problems:
        raise GateFailed(f"{path} has {len(found.problems)} problems, the first: {found.problems[0]} Export it again.")
