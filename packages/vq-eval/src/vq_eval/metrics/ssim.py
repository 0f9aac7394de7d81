"""Structural similarity (Wang et al., "Image Quality Assessment", IEEE TIP 2004, eq. 13), 1 for equal frames.

Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, on each colour channel in fp32.
The mean is taken where the window lies wholly inside the frame, as in the paper, so that padding has no say.
"""

from collections.abc import Sequence
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vq_eval.metrics import Clip, Per, batch_of, frame_pairs, too_small

WINDOW = 11

LABEL = "SSIM"
ORDER = 20
UNIT = ""
DIGITS = 4
HIGHER_IS_BETTER = True
COMPARES = True
PER: Per = "frame"
MEANING = "structural similarity in Gaussian windows of 11x11 pixels, mean over frames; 1 for equal videos"


def missing() -> None:
    """Never: torchmetrics is always there."""


def unsuited(clip: Clip) -> str | None:
    """Where the window is larger than the frame."""
    return too_small(clip, WINDOW)


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """SSIM of each frame."""
    return [of_frame(*pair) for pair in frame_pairs(reference, candidate)]


def of_frame(reference: Tensor, candidate: Tensor) -> float:
    """Mean SSIM over the pixels and channels of one frame; both are uint8 `[3, height, width]`."""
    _, ssim_map = structural_similarity_index_measure(
        batch_of(candidate), batch_of(reference), sigma=1.5, data_range=255.0, return_full_image=True
    )
    edge = WINDOW // 2
    return ssim_map[..., edge:-edge, edge:-edge].double().mean().item()


def over_video(figures: Sequence[float]) -> float:
    """Mean over the frames."""
    return fmean(figures)
