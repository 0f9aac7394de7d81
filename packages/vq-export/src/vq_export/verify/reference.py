"""What a checkpoint is compared with: the model that it was made from, or what its codes were rounded from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.model.source import Source
from vq_core.model.source import SourceTransformer as SourceCheckpoint
from vq_core.store.reader import require_same_model
from vq_export.model.quantized_model import QuantizedModel

Load = Callable[[Iterable[str], str], dict[str, Tensor]]


@dataclass(frozen=True)
class ReferenceComponent:
    """One transformer in full precision, by diffusers' names.

    Attributes:
        load: reads tensors onto a device.
        gain: the gain of a modulated norm by its name, where the tensors are smoothed already; None for the model
            itself, whose gains the checkpoint tells (see `vq_export.verify.checks.gains`).
    """

    load: Load
    gain: Callable[[str], Tensor] | None = None


@dataclass(frozen=True)
class Reference:
    """A model in full precision; `name` is for messages."""

    name: str
    components: Mapping[str, ReferenceComponent]


def model_reference(source: Source, checkpoint: ConvertedCheckpoint) -> Reference:
    """The model that `checkpoint` was made from.

    Raises:
        VqError: another model, or one without some of the checkpoint's transformers.
    """
    require_same_model(checkpoint.artifact, source.fingerprints, source.name)
    if lacking := sorted(checkpoint.components.keys() - source.components.keys()):
        raise VqError(f"{source.name} has no {lacking[0]}, which {checkpoint.artifact.path} has: give the whole model.")
    components = {
        name: ReferenceComponent(part.load, _gain_of(part) if part.has_gains else None)
        for name, part in source.components.items()
    }
    return Reference(source.name, components)


def _gain_of(smoothed: SourceCheckpoint) -> Callable[[str], Tensor]:
    return lambda name: smoothed.load([name])[name]


def unrounded_reference(model: QuantizedModel) -> Reference:
    """What the codes of `model` were rounded from: the smoothed weights, or the model that is being converted."""
    components = {name: ReferenceComponent(part.unrounded, part.gain) for name, part in model.components.items()}
    return Reference(model.model, components)
