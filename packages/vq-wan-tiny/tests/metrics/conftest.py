"""Clips of the world as `vq-eval compare` hands them to metrics."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vq_wan_tiny.prompts import draw_clips


@dataclass(frozen=True)
class Clip:
    """What `vq_eval.metrics.Clip` has, of which the package knows nothing."""

    frames: NDArray[np.uint8]
    prompt: str | None
    image: NDArray[np.uint8] | None
    path: Path = Path("000.mkv")
    device: str = "cpu"


@pytest.fixture(scope="session")
def real_clip() -> Clip:
    """A clip of the world, right by construction."""
    ((caption, frames),) = draw_clips(1, 5, held_out=True)
    return Clip(frames, caption, frames[0])


@pytest.fixture(scope="session")
def still_clip(real_clip: Clip) -> Clip:
    """The same, standing still."""
    return Clip(np.repeat(real_clip.frames[:1], len(real_clip.frames), axis=0), real_clip.prompt, real_clip.image)
