"""The contenders, one row for each way to run the model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from vq_core.errors import VqError
from vq_core.model.transformer_reader import CodesReader
from vq_core.numerics.rotation import NONE
from vq_infer.attention import AUTO
from vq_infer.bench.models.baselines import (
    CUDNN,
    compiled,
    diffusers_model,
    no_cuda,
    quantize_with_torchao,
    without_torchao,
)
from vq_infer.bench.models.engine import EIGHT_BIT, engine, why_not, why_not_eight_bit
from vq_infer.bench.models.workload import Workload
from vq_infer.engine.transformer import kernel_names

Linears = Literal["plain", "int8", "fp8", "w6a8", "w4a8"]
OurLinears = Literal["int8", "fp8", "w6a8", "w4a8"]
Missing = Callable[[torch.device], str | None]
Build = Callable[[Workload, torch.device, CodesReader | None], nn.Module]
RunsWith = Callable[[nn.Module], tuple[str, ...]]


@dataclass(frozen=True)
class Contender:
    """One way to run the model.

    Attributes:
        title: its name in tables.
        linears: format that its linears multiply; `plain` is bfloat16, on the CPU fp32.
        attention: format that its self-attention multiplies.
        missing: why it cannot run on a device, one sentence without a full stop; None where it can. Loads nothing.
        build: makes the transformer, ready to be called; its weights are random unless a checkpoint gives them.
        runs_with: what computes a built model's linears and its attention.
        ours: whether it is our engine, which can read a checkpoint.
        compiles: whether it has a cache that makes a second start faster.
    """

    title: str
    linears: Linears
    attention: Literal["plain", "8-bit"]
    missing: Missing
    build: Build
    runs_with: RunsWith
    ours: bool = False
    compiles: bool = True

    @property
    def loaded_bytes(self) -> int:
        """Most bytes of a weight while the model is made: contenders that are measured together must fit together."""
        return 1 if self.ours else 2


def contender_named(name: str) -> Contender:
    """The contender called `name`.

    Raises:
        VqError: there is none of that name; the message lists the known ones.
    """
    if name not in CONTENDERS:
        raise VqError(f"`{name}` is not one of the contenders ({', '.join(CONTENDERS)}): choose one of those.")
    return CONTENDERS[name]


def _compiled(
    title: str, linears: Linears, missing: Missing, change: Callable[[nn.Module], nn.Module], *names: str
) -> Contender:
    """Diffusers with compiled blocks and cuDNN's attention, its linears first changed by `change`."""
    return Contender(
        f"{title}, compiled, cuDNN attention",
        linears,
        "plain",
        missing=missing,
        build=lambda workload, device, _: compiled(change(diffusers_model(workload, device, CUDNN))),
        runs_with=lambda _: (*names, "torch.compile of every block", "cuDNN attention"),
    )


def _torchao_fp8(model: nn.Module) -> nn.Module:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    return quantize_with_torchao(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))


def _torchao_int8(model: nn.Module) -> nn.Module:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return quantize_with_torchao(model, Int8DynamicActivationInt8WeightConfig())


def _ours(scheme: OurLinears, attention: str = AUTO, max_rotation: int = NONE) -> Contender:
    """Our engine; `attention` is what `--attention` takes. With a rotation every linear reads a rotated input."""
    eight_bit, rotated = attention == EIGHT_BIT, max_rotation != NONE
    return Contender(
        f"vq-infer {scheme.upper()}{', rotated' if rotated else ''}{', 8-bit attention' if eight_bit else ''}",
        scheme,
        "8-bit" if eight_bit else "plain",
        missing=lambda device: why_not(device, scheme) or (why_not_eight_bit(device) if eight_bit else None),
        build=lambda workload, device, checkpoint: engine(
            workload, device, scheme, checkpoint, attention, max_rotation
        ),
        runs_with=kernel_names,
        ours=True,
    )


REFERENCE = "diffusers_eager"
"""The contender that ratios and errors are relative to."""
CONTENDERS = {
    REFERENCE: Contender(
        "diffusers, eager",
        "plain",
        "plain",
        missing=lambda _: None,
        build=lambda workload, device, _: diffusers_model(workload, device),
        runs_with=lambda _: ("torch.nn.functional.linear", "torch.nn.functional.scaled_dot_product_attention"),
        compiles=False,
    ),
    "diffusers_compiled": _compiled("diffusers", "plain", no_cuda, lambda model: model),
    "torchao_fp8": _compiled(
        "torchao FP8",
        "fp8",
        lambda device: without_torchao(device, (8, 9)),
        _torchao_fp8,
        "torchao float8, rowwise, dynamic",
    ),
    "torchao_int8": _compiled(
        "torchao INT8",
        "int8",
        lambda device: without_torchao(device, (8, 0)),
        _torchao_int8,
        "torchao int8, rowwise, dynamic",
    ),
    "vq_fp8": _ours("fp8"),
    "vq_fp8_attention8": _ours("fp8", EIGHT_BIT),
    "vq_int8": _ours("int8"),
    "vq_int8_rotated": _ours("int8", max_rotation=256),
    "vq_int8_attention8": _ours("int8", EIGHT_BIT),
    "vq_w6a8": _ours("w6a8", max_rotation=256),
    "vq_w4a8": _ours("w4a8", max_rotation=256),
}
"""Every contender by the name that `--contender` takes, in the order of the table."""
