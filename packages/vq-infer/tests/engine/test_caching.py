"""Caches skip blocks, change the video little, and know both branches of CFG."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_infer.attention import sdpa
from vq_infer.engine.caching import Passes, enable_cache, register_block, require_cacheable
from vq_infer.engine.transformer import load_transformer
from vq_infer.options import CacheChoice, parse_cache

STEPS = 8
SAMPLING = Sampling(steps=STEPS, height=32, width=32, num_frames=5)


Make = Callable[..., tuple[NDArray[np.uint8], Passes, int]]


@pytest.fixture
def make(tiny_model: Callable[[str], Path], opened: Callable[..., ConvertedCheckpoint]) -> Make:
    """The last video, the passes of all, and how often the second block computed."""

    def of(cache: str | None, videos: int = 1) -> tuple[NDArray[np.uint8], Passes, int]:
        checkpoint, passes, computed = opened("t2v"), Passes(), []

        def counted(*inputs: Tensor) -> Tensor:
            computed.append(None)
            return sdpa.attend(*inputs)

        def load(name: str) -> nn.Module:
            transformer: Any = load_transformer(checkpoint.components[name], torch.device("cpu"), name, sdpa)
            transformer.blocks[1].attention = SimpleNamespace(NAME="counted", attend=counted)
            if (choice := parse_cache(cache)) is not None:
                enable_cache(transformer, choice, passes)
            return transformer

        pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu", load)
        (conditions,) = pipeline.encode([Sample("a fox", "blurred")], SAMPLING)
        for _ in range(videos):
            video = pipeline.sample(conditions, SAMPLING, seed=0)
        return video, passes, len(computed)

    return of


@pytest.mark.parametrize("cache", ["first-block:0.3", "taylorseer:2"])
def test_skips_work_and_changes_little(make: Make, cache: str) -> None:
    plain, _, all_calls = make(None)
    video, passes, calls = make(cache)
    assert all_calls == 2 * STEPS
    assert passes == Passes(asked=2 * STEPS, computed=calls)
    assert 0 < calls < all_calls
    error = np.square(video.astype(float) - plain).mean()
    assert 0 < error < 255**2 / 10**2  # 20 dB
    again, passes, calls_of_two = make(cache, videos=2)
    assert np.array_equal(again, video)  # nothing of the first video is left in the second
    assert calls_of_two == 2 * calls


def test_a_threshold_that_nothing_passes_changes_nothing(make: Make) -> None:
    plain, _, _ = make(None)
    video, passes, _ = make("first-block:0.000001")
    assert passes.computed == passes.asked
    assert np.array_equal(video, plain)


def test_first_block_and_vace() -> None:
    require_cacheable(CacheChoice("taylorseer", 3), vace=True)
    require_cacheable(CacheChoice("first-block", 0.1), vace=False)
    with pytest.raises(VqError, match="would drop what VACE adds between blocks: use --cache taylorseer"):
        require_cacheable(CacheChoice("first-block", 0.1), vace=True)


def test_a_class_of_blocks_becomes_known() -> None:
    from diffusers.hooks._helpers import TransformerBlockRegistry

    class Block(nn.Module):
        pass

    with pytest.raises(ValueError, match="not registered"):
        TransformerBlockRegistry.get(Block)
    register_block(Block)
    assert TransformerBlockRegistry.get(Block).return_encoder_hidden_states_index is None
