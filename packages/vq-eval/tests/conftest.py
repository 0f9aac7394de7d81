"""Videos small enough to measure in milliseconds and large enough for SSIM's window."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_core.video import write_video

MakeFolder = Callable[..., Path]


@pytest.fixture
def clip() -> np.ndarray:
    """Frames `[4, 32, 48, 3]` of a moving gradient, away from black and white so that noise is not clipped."""
    frame, row, column = np.meshgrid(np.arange(4), np.arange(32), np.arange(48), indexing="ij")
    channels = [64 + (8 * frame + scale * row + column) % 128 for scale in (1, 2, 3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def noisy(clip: np.ndarray) -> np.ndarray:
    """`clip` with noise that differs from frame to frame."""
    amplitude = np.array([1, 2, 4, 8]).reshape(4, 1, 1, 1)
    noise = np.random.default_rng(0).integers(-1, 2, clip.shape) * amplitude
    return (clip + noise).astype(np.uint8)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make `tmp_path/name` with one video per file name in `videos`."""

    def make(name: str, videos: dict[str, np.ndarray]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file_name, frames in videos.items():
            write_video(folder / file_name, frames, 16)
        return folder

    return make
