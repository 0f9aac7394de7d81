"""A transformer that is another one but for the weights of its linears."""

from collections.abc import Iterable

from torch import Tensor

from vq_core.model.transformer_reader import DescribedTransformer


class Derived:
    """Everything of `origin` but the weights of its linears, which a subclass has; see `TransformerReader`."""

    def __init__(self, origin: DescribedTransformer[object]) -> None:
        self._origin = origin
        self.config = origin.config
        self.topology = origin.topology
        self.fingerprint = origin.fingerprint
        self.lora = origin.lora

    def verify(self, shard: str) -> None:
        """Compare the digests of the files of `shard` before they are read."""
        self._origin.verify(shard)

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Tensors that are not quantized."""
        return self._origin.plain(names, device)

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name`, fp32 `[in]`; None where there are none."""
        return self._origin.gain(name, device)
