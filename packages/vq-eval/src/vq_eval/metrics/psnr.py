"""Peak signal-to-noise ratio: PSNR = 10 log10(255^2 / MSE), in dB, MSE over all pixels and the three channels.

A video's PSNR comes from the MSE over the pixels of all its frames (not from the mean of its frames' PSNRs, which one
identical frame would make infinite).
"""

import math
from collections.abc import Sequence
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from vq_eval.metrics import Clip, Per, always_there, frame_pairs

LABEL = "PSNR"
ORDER = 10
UNIT = "dB"
DIGITS = 2
HIGHER_IS_BETTER = True
COMPARES = True
PER: Per = "frame"
MEANING = "10 log10(255² / mean squared error) over all pixels of all frames; infinite for equal videos"

missing = always_there


def unsuited(clip: Clip) -> None:
    """Never."""


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """PSNR of each frame, dB."""
    return [of_frame(*pair) for pair in frame_pairs(reference, candidate)]


def of_frame(reference: Tensor, candidate: Tensor) -> float:
    """PSNR of one frame in dB, infinite where both are equal; both are uint8 `[3, height, width]`."""
    return peak_signal_noise_ratio(candidate.double(), reference.double(), data_range=255.0).item()


def over_video(figures: Sequence[float]) -> float:
    """PSNR in dB of the MSE over all frames: -10 log10(mean over frames of 10^(-PSNR/10)).

    Exact, because frames of one video have equally many pixels: MSE / 255^2 of a frame is 10^(-PSNR/10).
    """
    relative_mse = fmean(10 ** (-psnr / 10) for psnr in figures)
    return -10 * math.log10(relative_mse) if relative_mse > 0 else math.inf
