"""Caches that reuse what an earlier step computed: those of diffusers, on this engine's blocks.

Off by default, because each changes the video; docs/caching.md has their costs and savings.
"""

from dataclasses import dataclass
from typing import Any

from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, ModelHook, TaylorSeerCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from torch import nn

from vq_core.errors import VqError
from vq_infer.options import CacheChoice

COUNT = "vq_block_count"
TAYLOR_WARM_UP = 3
"""First steps of each transformer, always computed: a derivative needs two, and the first ones differ from the rest."""


@dataclass
class Passes:
    """Passes through transformers; with guidance a step makes two."""

    asked: int = 0
    computed: int = 0


class _CountComputed(ModelHook):  # type: ignore[misc]  # diffusers is not typed
    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self._passes = passes

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._passes.computed += 1
        return args, kwargs


def require_cacheable(choice: CacheChoice, *, vace: bool) -> None:
    """Check that the cache is right for the model.

    Raises:
        VqError: the first block's cache is asked for with VACE, whose additions between blocks it would drop.
    """
    if vace and choice.name == "first-block":
        raise VqError("--cache first-block would drop what VACE adds between blocks: use --cache taylorseer.")


def enable_cache(transformer: nn.Module, choice: CacheChoice, passes: Passes) -> None:
    """Make diffusers' `transformer`, whose blocks may be of any class, use the cache; `passes` counts its passes.

    Each branch of guidance has a state of its own, and the pipeline clears it after each video.
    """
    model: Any = transformer
    for block_class in {type(block) for block in model.blocks}:
        register_block(block_class)
    # Registered before the cache's hook, so it is the inner one and sees only passes that are computed.
    HookRegistry.check_if_exists_or_initialize(model.blocks[-1]).register_hook(_CountComputed(passes), COUNT)

    def count_asked(*_: Any) -> None:
        passes.asked += 1

    transformer.register_forward_pre_hook(count_asked)
    if choice.name == "first-block":
        model.enable_cache(FirstBlockCacheConfig(threshold=choice.value))
    else:
        # Lite: differences are kept of the model's output only. Those of every attention, as in the paper, would take
        # some 50 GB for 14B at 480p.
        model.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=int(choice.value), disable_cache_before_step=TAYLOR_WARM_UP, use_lite_mode=True
            )
        )


def register_block(block_class: type[nn.Module]) -> None:
    """Tell diffusers' caches that blocks of `block_class` return hidden states only, as its own Wan blocks do."""
    TransformerBlockRegistry.register(
        model_class=block_class,
        metadata=TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
