"""What a checkpoint is compared with: the model that it was made from, or the weights before rounding."""

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
        smoothed: whether they are smoothed as the checkpoint is. If not, they are the model itself, and the gains are
            recovered from the checkpoint (see `vq_export.verify.checks.gains`).
    """

    name: str
    components: Mapping[str, TransformerReader[Tensor]]
    smoothed: bool


def model_reference(source: Source, checkpoint: ConvertedCheckpoint) -> Reference:
    """The model `source`, from which `checkpoint` was made; a model with gains of its own is smoothed already.

    Raises:
        VqError: `checkpoint` was made from another model, or `source` lacks one of its transformers.
    """
    require_same_model(checkpoint.artifact, source.fingerprints, source.name)
    if lacking := sorted(checkpoint.components.keys() - source.components.keys()):
        raise VqError(f"{source.name} has no {lacking[0]}, which {checkpoint.artifact.path} has: give the whole model.")
    return Reference(source.name, source.components, smoothed=source.has_gains)


def unrounded_reference(model: QuantizedModel) -> Reference:
    """The weights of `model` before rounding: the smoothed weights, or the model that is converted."""
    components = {name: component.unrounded for name, component in model.components.items()}
    return Reference(model.model, components, smoothed=True)
