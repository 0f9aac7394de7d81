import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vq_eval.metrics import psnr

FP32_LOG_ERROR_DB = 1e-4


def _literal_psnr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    """10 log10(255^2 / MSE) in fp64."""
    mse = np.mean((reference.astype(np.float64) - candidate.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / mse))


def _of_video(reference: np.ndarray, candidate: np.ndarray) -> float:
    pairs = zip(torch.from_numpy(reference), torch.from_numpy(candidate), strict=True)
    return psnr.over_video([psnr.of_frame(*pair) for pair in pairs])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 255), st.integers(1, 5))
def test_a_video_has_the_psnr_of_all_its_pixels(seed: int, amplitude: int, frames: int) -> None:
    generator = np.random.default_rng(seed)
    reference = generator.integers(0, 256, (frames, 3, 7, 5), dtype=np.uint8)
    error = generator.integers(-amplitude, amplitude + 1, reference.shape)
    candidate = np.clip(reference + error, 0, 255).astype(np.uint8)
    candidate[0, 0, 0, 0] = reference[0, 0, 0, 0] ^ 1  # never identical, or the literal formula divides by zero
    assert _of_video(reference, candidate) == pytest.approx(
        _literal_psnr_db(reference, candidate), abs=FP32_LOG_ERROR_DB
    )


def test_one_identical_frame_does_not_make_a_video_identical(clip: np.ndarray, noisy: np.ndarray) -> None:
    noisy[1] = clip[1]
    assert _of_video(clip, noisy) == pytest.approx(_literal_psnr_db(clip, noisy), abs=FP32_LOG_ERROR_DB)


def test_identical_videos_are_infinitely_good(clip: np.ndarray) -> None:
    assert _of_video(clip, clip) == math.inf


def test_black_against_white_is_zero_db() -> None:
    black, white = np.zeros((1, 3, 4, 4), np.uint8), np.full((1, 3, 4, 4), 255, np.uint8)
    assert _of_video(black, white) == pytest.approx(0.0, abs=FP32_LOG_ERROR_DB)
