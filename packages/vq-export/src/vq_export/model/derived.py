"""A transformer that differs from another in the weights of its linears alone."""

from collections.abc import Iterable

from torch import Tensor

from vq_core.model.transformer_reader import DescribedTransformer


class Derived:
    """Everything of `origin` but the weights of its linears, which a subclass adds; see `TransformerReader`."""

    def __init__(self, origin: DescribedTransformer[object]) -> None:
        self._origin = origin
        self.config = origin.config
        self.topology = origin.topology
        self.fingerprint = origin.fingerprint
        self.lora = origin.lora

    def verify(self, shard: str) -> None:
        """As `origin` does."""
        self._origin.verify(shard)

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors of `origin`."""
        return self._origin.plain(names, device)

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain of `origin`."""
        return self._origin.gain(name, device)
