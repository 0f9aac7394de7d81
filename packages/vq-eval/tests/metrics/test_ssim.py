import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from vq_eval.metrics import ssim

FP32_ERROR = 2e-5


def _literal_ssim(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Equation 13 of Wang et al. in fp64 on `[height, width]` planes of `[3, height, width]`, then their mean."""
    offsets = np.arange(-5, 6)
    gaussian = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def weighted_mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("chwij,ij->chw", values, window)

    x = sliding_window_view(reference.astype(np.float64), (11, 11), axis=(1, 2))
    y = sliding_window_view(candidate.astype(np.float64), (11, 11), axis=(1, 2))
    mu_x, mu_y = weighted_mean(x), weighted_mean(y)
    centred_x, centred_y = x - mu_x[..., None, None], y - mu_y[..., None, None]
    var_x, var_y, cov_xy = (
        weighted_mean(centred_x**2),
        weighted_mean(centred_y**2),
        weighted_mean(centred_x * centred_y),
    )
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    structure = (2 * cov_xy + c2) / (var_x + var_y + c2)
    return float(np.mean(luminance * structure))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(11, 24), st.integers(11, 24))
def test_a_frame_has_the_ssim_of_the_paper(seed: int, amplitude: int, height: int, width: int) -> None:
    generator = np.random.default_rng(seed)
    reference = generator.integers(0, 256, (3, height, width), dtype=np.uint8)
    error = generator.integers(-amplitude, amplitude + 1, reference.shape)
    candidate = np.clip(reference + error, 0, 255).astype(np.uint8)
    measured = ssim.of_frame(torch.from_numpy(reference), torch.from_numpy(candidate))
    assert measured == pytest.approx(_literal_ssim(reference, candidate), abs=FP32_ERROR)


def test_smooth_bright_frames_lose_no_precision(clip: np.ndarray) -> None:
    bright = (clip.transpose(0, 3, 1, 2)[0] // 32 + 248).astype(np.uint8)
    darker = bright - np.uint8(1)
    measured = ssim.of_frame(torch.from_numpy(bright), torch.from_numpy(darker))
    assert measured == pytest.approx(_literal_ssim(bright, darker), abs=10 * FP32_ERROR)


def test_what_lies_beyond_the_border_has_no_say() -> None:
    reference = np.full((3, 11, 11), 100, np.uint8)
    candidate = reference.copy()
    candidate[:, 0, 0] = 255  # with padding many windows would hold the corner; only one lies inside the frame
    measured = ssim.of_frame(torch.from_numpy(reference), torch.from_numpy(candidate))
    assert measured == pytest.approx(_literal_ssim(reference, candidate), abs=FP32_ERROR)


def test_equal_frames_give_one(clip: np.ndarray) -> None:
    frame = torch.from_numpy(clip[0].transpose(2, 0, 1))
    assert ssim.of_frame(frame, frame) == pytest.approx(1.0, abs=1e-6)


def test_a_video_is_the_mean_of_its_frames() -> None:
    assert ssim.over_video([0.5, 0.75, 1.0]) == 0.75
