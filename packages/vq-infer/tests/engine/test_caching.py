"""Caches skip blocks, change the video little, and know both branches of CFG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_infer.attention import load_attention
from vq_infer.engine.caching import Passes, enable_cache, register_block, require_cacheable
from vq_infer.engine.transformer import load_transformer
from vq_infer.options import CacheChoice, parse_cache

TinyModel = Callable[[str], Path]
Convert = Callable[..., Path]
STEPS = 8
SAMPLING = Sampling(steps=STEPS, height=32, width=32, num_frames=5)


def make(model: Path, checkpoint: Path, cache: str | None, videos: int = 1) -> tuple[NDArray[np.uint8], Passes, int]:
    """The last video, the passes of all, and how often the second block computed."""
    opened = open_checkpoint(checkpoint)
    passes, computed = Passes(), []

    def load(name: str) -> nn.Module:
        transformer: Any = load_transformer(
            opened.components[name], opened.scheme, torch.device("cpu"), name, load_attention("sdpa")
        )
        inner = transformer.blocks[1].forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            computed.append(None)
            return inner(*args, **kwargs)

        transformer.blocks[1].forward = counted
        choice = parse_cache(cache)
        if choice is not None:
            enable_cache(transformer, choice, passes)
        return transformer

    pipeline = VideoPipeline(str(model), "cpu", load)
    (conditions,) = pipeline.encode([Sample("a fox", "blurred")], SAMPLING)
    for _ in range(videos):
        video = pipeline.sample(conditions, SAMPLING, seed=0)
    return video, passes, len(computed)


@pytest.mark.parametrize("cache", ["first-block:0.3", "taylorseer:2"])
def test_skips_work_and_changes_little(tiny_model: TinyModel, convert: Convert, cache: str) -> None:
    model = tiny_model("t2v")
    checkpoint = convert(model)
    plain, _, all_calls = make(model, checkpoint, None)
    video, passes, calls = make(model, checkpoint, cache)
    assert all_calls == 2 * STEPS
    assert passes == Passes(asked=2 * STEPS, computed=calls)
    assert 0 < calls < all_calls
    error = np.square(video.astype(float) - plain).mean()
    assert 0 < error < 255**2 / 10**2  # 20 dB
    again, passes, calls_of_two = make(model, checkpoint, cache, videos=2)
    assert np.array_equal(again, video)  # nothing of the first video is left in the second
    assert calls_of_two == 2 * calls


def test_a_threshold_that_nothing_passes_changes_nothing(tiny_model: TinyModel, convert: Convert) -> None:
    model = tiny_model("t2v")
    checkpoint = convert(model)
    plain, _, _ = make(model, checkpoint, None)
    video, passes, _ = make(model, checkpoint, "first-block:0.000001")
    assert passes.computed == passes.asked
    assert np.array_equal(video, plain)


def test_first_block_and_vace() -> None:
    require_cacheable(CacheChoice("taylorseer", 3), vace=True)
    require_cacheable(CacheChoice("first-block", 0.1), vace=False)
    with pytest.raises(VqError, match="does not know what VACE adds between blocks: use --cache taylorseer"):
        require_cacheable(CacheChoice("first-block", 0.1), vace=True)


def test_a_class_of_blocks_becomes_known() -> None:
    from diffusers.hooks._helpers import TransformerBlockRegistry

    class Block(nn.Module):
        pass

    with pytest.raises(ValueError, match="not registered"):
        TransformerBlockRegistry.get(Block)
    register_block(Block)
    assert TransformerBlockRegistry.get(Block).return_encoder_hidden_states_index is None
