"""What each runtime can compute, as data: stages use exactly that, and refuse what it cannot hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vq_core.errors import VqError
from vq_core.numerics.scheme import FP8, QuantScheme, schemes_named


@dataclass(frozen=True)
class Target:
    """A runtime.

    Attributes:
        name: what `--target` and the export's sub-command call it.
        title: what people call it.
        gains: whether the output of a modulated norm may have a gain that differs from block to block.
        fp8_scale: what one scale of an FP8 weight is for.
        rotation: how many channels of a linear's input it can rotate together, at most; 1 if it does not rotate.
        mixed: whether linears may have different schemes, or stay in full precision.
        bits: in how many a weight may be stored.
        subtracts: whether a linear can subtract the mean of its input by itself.
    """

    name: str
    title: str
    gains: bool
    fp8_scale: Literal["channel", "tensor"]
    rotation: int
    mixed: bool
    bits: tuple[int, ...] = (8,)
    subtracts: bool = False


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("lightx2v", "LightX2V", gains=True, fp8_scale="channel", rotation=1, mixed=False),
        Target(
            "native",
            "vq-infer",
            gains=True,
            fp8_scale="channel",
            rotation=256,
            mixed=True,
            bits=(8, 6, 4),
            subtracts=True,
        ),
        Target("comfyui", "ComfyUI", gains=False, fp8_scale="tensor", rotation=256, mixed=True, bits=(8, 6, 4)),
    )
}


def target_named(name: str) -> Target:
    """The target called `name`.

    Raises:
        VqError: there is none.
    """
    if name not in TARGETS:
        raise VqError(f"`{name}` is not a target: choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]


def require_rotation(target: str) -> None:
    """Refuse to rotate what linears read for `target` if it cannot.

    Raises:
        VqError: it says what to do instead.
    """
    runtime = target_named(target)
    if runtime.rotation == 1:
        able = " or ".join(other.name for other in TARGETS.values() if other.rotation > 1)
        raise VqError(
            f"{runtime.title} does not rotate what a linear reads: leave --rotate out, or smooth the model with "
            f"`--target {able}`."
        )


def require_mixed(target: str) -> None:
    """Refuse to keep linears in full precision for `target` if it cannot.

    Raises:
        VqError: it says what to do instead.
    """
    runtime = target_named(target)
    if not runtime.mixed:
        able = " or ".join(other.name for other in TARGETS.values() if other.mixed)
        raise VqError(
            f"{runtime.title} reads every linear of a block in 8 bits: leave --keep, --keep-size and --min-snr out, or "
            f"smooth the model with `--target {able}`."
        )


def require_scheme(target: str, scheme: str) -> None:
    """Refuse to smooth or quantize for `target` in a scheme of which it cannot hold the result.

    Raises:
        VqError: it says what to do instead.
    """
    runtime, schemes = target_named(target), schemes_named(scheme)
    if _holds(runtime, schemes):
        return
    if FP8 in schemes and runtime.fp8_scale == "tensor":
        raise VqError(
            f"{runtime.title} reads one FP8 scale per tensor, and calibration gives one per channel: take int8, or "
            f"convert the model itself with `vq-export {target} --scheme fp8`."
        )
    able = " or ".join(other.name for other in TARGETS.values() if _holds(other, schemes))
    raise VqError(f"{runtime.title} does not run {scheme}: take int8, or smooth the model with `--target {able}`.")


def _holds(target: Target, schemes: Sequence[QuantScheme]) -> bool:
    """Can `target` hold what calibration makes of linears that each have one of `schemes`?"""
    per_channel = target.fp8_scale == "channel" or FP8 not in schemes
    return per_channel and (target.mixed or len(schemes) == 1) and all(one.bits in target.bits for one in schemes)


def require_input_means(target: str) -> None:
    """Refuse linears that subtract the mean of their input for `target` if it cannot.

    Raises:
        VqError: it says what to do instead.
    """
    runtime = target_named(target)
    if not runtime.subtracts:
        able = " or ".join(other.name for other in TARGETS.values() if other.subtracts)
        raise VqError(
            f"{runtime.title} does not subtract a mean behind GELU, and these codes need it: smooth the model with "
            f"`vq-algos smooth --target {target}`, or export for {able}."
        )
