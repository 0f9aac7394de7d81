"""Quantization of a whole model: smoothed weights in, codes and scales out, one block at a time."""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vq_algos.rounders import rounder_named
from vq_core import __version__
from vq_core.artifacts import qparams as qparams_artifact
from vq_core.artifacts.decisions import write_decided
from vq_core.artifacts.weights import SmoothedComponent, SmoothedWeights
from vq_core.errors import VqError
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import dequantize, snr_db
from vq_core.progress import progress
from vq_core.scheme import Rounding, scheme_named
from vq_core.store import ComponentHeader, Header, create_artifact

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuantizeSettings:
    """How to quantize: the names of a scheme, a rounder and a rounding."""

    scheme: str
    method: str = "rtn"
    rounding: str = Rounding.NEAREST_EVEN.value

    def __post_init__(self) -> None:
        scheme_named(self.scheme)
        rounder_named(self.method)
        known = [rounding.value for rounding in Rounding]
        if self.rounding not in known:
            raise VqError(f"`{self.rounding}` is not a rounding: choose one of {', '.join(known)}.")


def quantize(
    weights: SmoothedWeights, settings: QuantizeSettings, output: Path, *, device: str = "cpu", resume: bool = False
) -> None:
    """Write the quant-params artifact of `weights` to `output`. Host memory: one block and its codes.

    Raises:
        VqError: a weight is not finite, or the artifact is damaged.
    """
    manifest = weights.artifact.manifest
    header = Header(
        kind=qparams_artifact.KIND,
        format=qparams_artifact.FORMAT,
        tool=f"vq-algos {__version__}",
        family=manifest.family,
        model=manifest.model,
        components={
            name: ComponentHeader(name, component.fingerprint, component.config)
            for name, component in weights.components.items()
        },
        settings=asdict(settings),
        parents={manifest.kind: weights.artifact.digest},
    )
    total = sum(component.topology.num_blocks for component in weights.components.values())
    with create_artifact(output, header, resume=resume) as writer, progress("quantize", total, "block") as advance:
        for name, component in weights.components.items():
            for block in range(component.topology.num_blocks):
                file = f"{name}/block_{block}.safetensors"
                if not writer.has(file):
                    # Bound to no name here, or one block's codes would live on while the next is quantized.
                    write_decided(writer, file, *quantize_block(component, block, settings, device))
                advance()


def quantize_block(
    component: SmoothedComponent, block: int, settings: QuantizeSettings, device: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Codes and scales of the linears of one block; what was decided for each, and the error it left."""
    scheme, rounding = scheme_named(settings.scheme), Rounding(settings.rounding)
    rounder = rounder_named(settings.method)
    tensors: dict[str, Tensor] = {}
    decisions: dict[str, Any] = {}
    for linear in component.topology.linears:
        if linear.block != block:
            continue
        name = f"{linear.name}.weight"
        weight = component.load([name], device)[name]
        require_finite(weight, name, "the smoothed weights")
        quantized = rounder.quantize(weight, scheme.weight, rounding)
        tensors[f"{linear.name}.codes"] = quantized.codes.cpu()
        tensors[f"{linear.name}.scale"] = quantized.scale.cpu()
        snr = snr_db(weight, dequantize(quantized))
        logger.debug("%s: weight SNR %.1f dB", linear.name, snr)
        # JSON has no infinity: null says that the codes hold the weight exactly.
        decisions[linear.name] = {
            "method": settings.method,
            "weight_snr_db": round(snr, 3) if math.isfinite(snr) else None,
        }
    return tensors, decisions
