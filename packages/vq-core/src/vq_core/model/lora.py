"""LoRAs merged into a transformer's weights, tensor by tensor, as they are read.

    W' = W + Σ strength · (alpha / rank · ΔW + diff)

in fp32, W' stored once, in the dtype of W. `vq_core.model.lora_delta` says what ΔW is; without an alpha the factor
alpha / rank is 1. Biases take `diff_b` and alpha / rank times B's bias. DoRA then scales W', which only a strength of 1
defines: PEFT, LyCORIS and ComfyUI each mean something else by another one.
"""

from collections.abc import Sequence

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families import Family
from vq_core.model.lora_change import Change, changes_of
from vq_core.model.lora_file import Lora
from vq_core.model.lora_keys import KeyTable
from vq_core.numerics.finite import require_finite
from vq_core.topology import Topology


class Merge:
    """The LoRAs that are merged into one transformer."""

    def __init__(self, loras: Sequence[Lora], component: str, topology: Topology, family: Family) -> None:
        """Those of `loras` that are for `component`, which `topology` and `family` describe.

        Raises:
            VqError: one of them does not fit.
        """
        table = KeyTable(topology.tensors, family)
        self.loras = tuple(lora for lora in loras if lora.keys_for(component))
        self._changes: dict[str, list[Change]] = {}
        for lora in self.loras:
            for tensor, change in changes_of(lora, component, table, topology).items():
                self._changes.setdefault(tensor, []).append(change)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that are changed."""
        return tuple(self._changes)

    def apply(self, name: str, tensor: Tensor) -> Tensor:
        """`tensor`, which is called `name`, with every LoRA merged; its dtype stays.

        Raises:
            VqError: the sum is larger than the dtype holds, or not finite before.
        """
        if name not in self._changes:
            return tensor
        summed = tensor.to(torch.float32, copy=True)
        for change in self._changes[name]:
            change.apply_to(summed)
        merged = summed.to(tensor.dtype)
        self._require_finite(name, tensor, merged)
        return merged

    def entries(self) -> tuple[dict[str, JsonValue], ...]:
        """What a manifest says of the LoRAs, in the order of merging."""
        return tuple(
            {"file": lora.request.path.name, "sha256": lora.digest, "strength": lora.request.strength}
            for lora in self.loras
        )

    def _require_finite(self, name: str, before: Tensor, merged: Tensor) -> None:
        loras = [change.lora for change in self._changes[name]]
        try:
            require_finite(merged, name, loras[0].model)
        except VqError:
            require_finite(before, name, loras[0].model)
            asked = " and ".join(f"{lora.request.path} at strength {lora.request.strength:g}" for lora in loras)
            dtype = str(merged.dtype).removeprefix("torch.")
            raise VqError(
                f"Merged with the LoRA {asked}, `{name}` of {loras[0].model} passes {torch.finfo(merged.dtype).max:g}, "
                f"the largest number of {dtype}: give a smaller strength, or check that the LoRA is whole."
            ) from None
