"""The transformers of one run, loaded according to the memory plan and the settings."""

import torch
from torch import nn

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_infer.attention import FULL_PRECISION
from vq_infer.attention_choice import select_attention
from vq_infer.engine.caching import Passes, enable_cache, require_cacheable
from vq_infer.engine.transformer import kernel_names, load_transformer
from vq_infer.memory.needs import block_order
from vq_infer.memory.offload import BlockOffload, spread
from vq_infer.memory.plan import MemoryPlan
from vq_infer.options import EngineSettings


class Engine:
    """Loads the transformers of a checkpoint, and records the kernels that they run with."""

    def __init__(
        self,
        checkpoint: ConvertedCheckpoint,
        device: torch.device,
        plan: MemoryPlan,
        settings: EngineSettings,
        *,
        vace: bool,
    ) -> None:
        """Check cache and attention; nothing is loaded yet.

        Raises:
            VqError: the cache is not for this model, or the attention does not run here.
        """
        tolerance = FULL_PRECISION if settings.attention_tolerance is None else settings.attention_tolerance
        self._attention = select_attention(settings.attention, device, tolerance)
        if settings.cache is not None:
            require_cacheable(settings.cache, vace=vace)
        self._checkpoint = checkpoint
        self._device = device
        self._plan = plan
        self._cache = settings.cache
        self._passes = Passes()
        self._kernels: set[str] = set()

    @property
    def attention(self) -> str:
        """Name of the self-attention."""
        return self._attention.NAME

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels of the transformers loaded so far, with that of self-attention as of now."""
        return tuple(sorted(self._kernels | {self.attention})) if self._kernels else ()

    @property
    def passes(self) -> tuple[int, int] | None:
        """Passes through transformers, asked and computed; None without a cache."""
        return None if self._cache is None else (self._passes.asked, self._passes.computed)

    def load(self, name: str) -> nn.Module:
        """The transformer of the component `name`, on the device except for blocks that wait on the host.

        Raises:
            VqError: the checkpoint is damaged.
        """
        component = self._checkpoint.components[name]
        order = block_order(component.topology)
        chosen = {order[index]: index for index in spread(min(self._plan.offloaded, len(order)), len(order))}
        offload = BlockOffload(self._device)

        def take(shard: str, block: nn.Module) -> None:
            if shard in chosen:
                offload.take(block, chosen[shard])

        model = load_transformer(component, self._device, name, self._attention, on_block=take)
        offload.start()
        if self._cache is not None:
            enable_cache(model, self._cache, self._passes)
        self._kernels |= set(kernel_names(model)) - {self.attention}
        return model
