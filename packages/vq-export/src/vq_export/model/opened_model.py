"""What every export is made from: a model with its provenance, read shard by shard."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue
from torch import Tensor

from vq_core import __version__
from vq_core.artifacts.components import headers_in
from vq_core.model.transformer_reader import DescribedTransformer
from vq_core.numerics.quantize import Quantized
from vq_core.store.writer import Header

TOOL = f"vq-export {__version__}"


@dataclass(frozen=True)
class OpenedModel:
    """A model with its provenance; `parents` has the digest of each artifact that it comes from."""

    model: str
    family_name: str
    components: Mapping[str, DescribedTransformer[Tensor | Quantized]]
    settings: Mapping[str, JsonValue]
    parents: Mapping[str, str]

    @property
    def shards(self) -> int:
        """Number of the shards of all components."""
        return sum(len(component.topology.shards()) for component in self.components.values())

    def header(self, kind: str, fmt: int, folders: Mapping[str, str], settings: Mapping[str, JsonValue]) -> Header:
        """Header of the artifact that it is written to, with each component's files in the folder of `folders`."""
        components = headers_in(folders, self.components)
        return Header(kind, fmt, TOOL, self.family_name, self.model, components, dict(settings), dict(self.parents))
