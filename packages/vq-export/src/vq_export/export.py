"""From what a user named to the quantized model that a target writes."""

from dataclasses import dataclass
from pathlib import Path

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.scheme import Rounding, scheme_named
from vq_core.source import open_source
from vq_export.quantized_model import QuantizedModel, from_artifacts, from_source


@dataclass(frozen=True)
class Inputs:
    """Either both artifacts, or a model and a scheme.

    Raises:
        VqError: it is neither.
    """

    weights: Path | None = None
    qparams: Path | None = None
    model: str | None = None
    scheme: str | None = None

    def __post_init__(self) -> None:
        if self.model is not None and (self.weights or self.qparams):
            raise VqError("`--model` converts a plain model and `--weights`/`--qparams` artifacts: give one or the other.")
        if self.model is None and not (self.weights and self.qparams):
            raise VqError("Nothing to export: give --weights and --qparams, or --model and --scheme.")
        if self.model is not None and self.scheme is None:
            raise VqError("`--scheme` is missing: with --model, say int8 or fp8.")


def open_model(inputs: Inputs, rounding: str, device: str) -> QuantizedModel:
    """Open what `inputs` names; `rounding` and `device` are for conversion from a plain model."""
    if inputs.weights is not None and inputs.qparams is not None:
        return from_artifacts(open_weights(inputs.weights), open_qparams(inputs.qparams))
    known = [known.value for known in Rounding]
    if rounding not in known:
        raise VqError(f"`{rounding}` is not a rounding: choose one of {', '.join(known)}.")
    return from_source(open_source(str(inputs.model)), scheme_named(str(inputs.scheme)), Rounding(rounding), device=device)


def checkpoint_rows(folder: Path) -> dict[str, str]:
    """Summary of the checkpoint in `folder`."""
    checkpoint = open_checkpoint(folder)
    size = sum(entry.size for entry in checkpoint.artifact.manifest.files.values())
    return {
        "scheme": checkpoint.scheme.name,
        "smoothed": "yes (quant_method advanced_ptq)" if checkpoint.has_gains else "no",
        "components": ", ".join(checkpoint.components),
        "size": f"{size / 1e9:.3g} GB",
    }
