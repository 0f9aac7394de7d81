"""Structural similarity (Wang et al., "Image Quality Assessment", IEEE TIP 2004, eq. 13), 1 for equal frames.

Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, on each colour channel in fp32.
The mean is taken where the window lies wholly inside the frame, as in the paper, so padding has no effect.
"""

from functools import partial
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vq_eval.metrics import Clip, Per, always_there, batch_of, frame_pairs, too_small

WINDOW = 11

LABEL = "SSIM"
ORDER = 20
UNIT = ""
DIGITS = 4
HIGHER_IS_BETTER = True
COMPARES = True
PER: Per = "frame"
MEANING = "structural similarity in Gaussian windows of 11x11 pixels, mean over frames; 1 for equal videos"

missing = always_there
unsuited = partial(too_small, side=WINDOW)
over_video = fmean


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
