import numpy as np
import pytest
import torch

from vq_eval.metrics import Clip, ms_ssim

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FP32_ERROR = 2e-5


def _means(planes: np.ndarray) -> np.ndarray:
    """Gaussian means of `[3, height, width]` in fp64, the frame reflected at its edges."""
    offsets = np.arange(-5, 6)
    gaussian = np.exp(-(offsets**2) / (2 * 1.5**2))
    gaussian /= gaussian.sum()
    padded = np.pad(planes, ((0, 0), (5, 5), (5, 5)), mode="reflect")
    rows = np.apply_along_axis(np.convolve, 1, padded, gaussian, "valid")
    return np.apply_along_axis(np.convolve, 2, rows, gaussian, "valid")


def _literal(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Equation 7 of Wang, Simoncelli and Bovik in fp64; the module's docstring says where windows may lie."""
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = 1.0
    for scale, exponent in enumerate(EXPONENTS):
        mx, my = _means(x), _means(y)
        contrast = (2 * (_means(x * y) - mx * my) + c2) / (_means(x * x) - mx**2 + _means(y * y) - my**2 + c2)
        luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        coarsest = scale == len(EXPONENTS) - 1
        term = (contrast * luminance).mean() if coarsest else contrast[:, 5:-5, 5:-5].mean()
        result *= term**exponent
        if not coarsest:
            x, y = (it.reshape(3, it.shape[1] // 2, 2, it.shape[2] // 2, 2).mean((2, 4)) for it in (x, y))
    return result


@pytest.mark.parametrize("candidate", [1, 2, 3])
def test_it_is_the_literal_formula(large: list[Clip], candidate: int) -> None:
    frames = [np.moveaxis(clip.frames[1], -1, 0) for clip in (large[0], large[candidate])]
    figure = ms_ssim.of_frame(*map(torch.from_numpy, frames))
    assert figure == pytest.approx(_literal(*frames), abs=FP32_ERROR)


def test_equal_frames_have_one(large: list[Clip]) -> None:
    assert ms_ssim.measure(large[0], large[0]) == pytest.approx([1.0] * 3, abs=1e-6)


def test_smaller_videos_than_five_scales_need_are_not_measured(large: list[Clip]) -> None:
    small = Clip(large[0].path, large[0].frames[:, :175])
    assert ms_ssim.unsuited(small) == "it needs at least 176x176 pixels, and the video has 175x192"
    assert ms_ssim.unsuited(large[0]) is None
