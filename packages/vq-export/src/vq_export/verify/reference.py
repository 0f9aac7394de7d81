"""What a checkpoint is compared with: the model that it was made from, or what its codes were rounded from."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.model.source import Source
from vq_core.model.transformer_reader import TransformerReader
from vq_core.store.reader import require_same_model
from vq_export.model.quantized_model import QuantizedModel


@dataclass(frozen=True)
class Reference:
    """A model in full precision.

    Attributes:
        name: for messages.
        components: its transformers by component name.
        smoothed: whether they are smoothed as the checkpoint is. Else they are the model itself, and the checkpoint
            tells how it was smoothed (see `vq_export.verify.checks.gains`).
    """

    name: str
    components: Mapping[str, TransformerReader[Tensor]]
    smoothed: bool


def model_reference(source: Source, checkpoint: ConvertedCheckpoint) -> Reference:
    """The model that `checkpoint` was made from; one that brings gains is not smoothed here a second time.

    Raises:
        VqError: another model, or one without some of the checkpoint's transformers.
    """
    require_same_model(checkpoint.artifact, source.fingerprints, source.name)
    if lacking := sorted(checkpoint.components.keys() - source.components.keys()):
        raise VqError(f"{source.name} has no {lacking[0]}, which {checkpoint.artifact.path} has: give the whole model.")
    return Reference(source.name, source.components, smoothed=source.has_gains)


def unrounded_reference(model: QuantizedModel) -> Reference:
    """What the codes of `model` were rounded from: the smoothed weights, or the model that is being converted."""
    components = {name: component.unrounded for name, component in model.components.items()}
    return Reference(model.model, components, smoothed=True)
