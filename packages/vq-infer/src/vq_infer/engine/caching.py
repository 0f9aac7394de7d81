"""Reusing what a step computed in the next: caches that diffusers ships, on the blocks that run here.

Off unless asked for, because each changes the video; docs/caching.md has what each costs and saves.
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
"""Steps of each transformer that are always computed: a derivative needs two, and the first are unlike the others."""


@dataclass
class Passes:
    """Passes through transformers: CFG makes two in a step."""

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
    """Refuse a cache that would be wrong for the model.

    Raises:
        VqError: the first block's cache replaces what VACE adds between blocks.
    """
    if vace and choice.name == "first-block":
        raise VqError("--cache first-block does not know what VACE adds between blocks: use --cache taylorseer.")


def enable_cache(transformer: nn.Module, choice: CacheChoice, passes: Passes) -> None:
    """Have `transformer`, diffusers' own around blocks of any class, use the cache; `passes` counts what it saves.

    State is kept per CFG branch, and the pipeline clears it after each video.
    """
    model: Any = transformer
    for block_class in {type(block) for block in model.blocks}:
        register_block(block_class)
    # Before the cache's own hook, so it is the inner one and sees only what is computed.
    HookRegistry.check_if_exists_or_initialize(model.blocks[-1]).register_hook(_CountComputed(passes), COUNT)

    def count_asked(*_: Any) -> None:
        passes.asked += 1

    transformer.register_forward_pre_hook(count_asked)
    if choice.name == "first-block":
        model.enable_cache(FirstBlockCacheConfig(threshold=choice.value))
    else:
        # Lite: the difference between passes is taken of the model's output. Of every attention's output, as in the
        # paper, 14B at 480p would keep some 50 GB.
        model.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=int(choice.value), disable_cache_before_step=TAYLOR_WARM_UP, use_lite_mode=True
            )
        )


def register_block(block_class: type[nn.Module]) -> None:
    """Tell diffusers' caches that blocks of `block_class` return the hidden states alone, as its own of Wan do."""
    TransformerBlockRegistry.register(
        model_class=block_class,
        metadata=TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
