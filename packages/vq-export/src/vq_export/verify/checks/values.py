"""The values of a checkpoint's tensors, and how the runtime's cast to bfloat16 changes them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import CheckpointTensor, ConvertedCheckpoint, Role
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.numerics.grouped import CODEBOOK

MAX_SATURATED = 0.05
"""Share of a linear's codes at the end of the range. Rounding puts about one per row there, clipping a few in 100."""
MIN_RANGE = 0.5
"""Share of the range that the largest code of a row uses. A scale is at most the row's absmax over the range."""
SLICE_ROWS = 64


@dataclass
class Values:
    """What the values of the tensors show.

    Attributes:
        read: number of tensors.
        rounded: number of tensors, scales and gains aside, that the runtime's cast to bfloat16 changes.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    read: int = 0
    rounded: int = 0

    def check_shard(self, checkpoint: ConvertedCheckpoint, name: str, shard: str, device: str) -> None:
        """Read the tensors of one shard of the component `name`, and add their problems and warnings."""
        table = checkpoint.artifact.manifest.components[name].tensors
        component = checkpoint.components[name]
        own = {tensor: entry for tensor, entry in component.entries.items() if entry.shard == shard and tensor in table}
        gains: dict[str, dict[str, Tensor]] = {}
        for tensor, entry in own.items():
            value = checkpoint.artifact.tensors(name, [tensor], device)[tensor]
            self.read += 1
            scheme = component.scheme_of(entry.origin) if entry.role is Role.CODES else None
            grouped = scheme is not None and scheme.grouped
            any_byte = checkpoint.is_imported or grouped
            self.problems += [
                f"`{tensor}` of {name} {problem}." for problem in _problems(entry, value, any_byte=any_byte)
            ]
            if scheme is not None and not grouped:
                qmax = scheme.weight.qmax
                self.warnings += [f"`{tensor}` of {name} {warning}." for warning in _code_warnings(value, qmax)]
            if entry.role is Role.PLAIN and not is_bf16(value.float()).all():
                self.rounded += 1
            if entry.role is Role.GAIN:
                gains.setdefault(entry.origin, {})[tensor] = value
        for twins in gains.values():
            (first, value), *others = twins.items()
            self.problems += [
                f"`{first}` and `{other}` of {name} differ, and smooth one input: it would be smoothed in two ways."
                for other, twin in others
                if not torch.equal(value, twin)
            ]


def _problems(entry: CheckpointTensor, tensor: Tensor, *, any_byte: bool) -> Iterator[str]:
    if tensor.dtype == torch.int8:
        if entry.role is Role.CODES and not any_byte and bool((tensor == -128).any()):
            yield "holds the code −128, which symmetric INT8 never has"
        return
    values = tensor.float()
    if not torch.isfinite(values).all():
        yield "holds NaN or infinite values"
    elif entry.role in (Role.SCALE, Role.GROUP_SCALE, Role.GAIN):
        if not (values > 0).all():
            yield "holds values that are not positive"
        if not is_bf16(values).all():
            yield "holds values that a cast to bfloat16 would change"
    elif entry.role is Role.CODEBOOK and values.tolist() != torch.tensor(CODEBOOK).tolist():
        yield "is another codebook than the one that the codes are for"


def _code_warnings(codes: Tensor, qmax: float) -> Iterator[str]:
    saturated = wasteful = 0
    for rows in codes.split(SLICE_ROWS):
        magnitude = rows.float().abs()
        largest = magnitude.amax(dim=-1)
        saturated += int((magnitude == qmax).sum())
        wasteful += int(((largest > 0) & (largest < MIN_RANGE * qmax)).sum())
    if saturated > MAX_SATURATED * codes.numel():
        share = saturated / codes.numel()
        yield f"has {share:.0%} of its codes at the end of the range: its scales are too small for its weights"
    if wasteful:
        yield f"has {wasteful} rows that use less than half of the range: their scales are too large"
