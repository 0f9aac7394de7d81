"""Structural similarity (Wang et al., "Image Quality Assessment", IEEE TIP 2004, eq. 13), 1 for equal frames.

Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, L = 255, on each colour channel in fp32.
The mean is taken where the window lies wholly inside the frame, as in the paper, so that padding has no say.
"""

from collections.abc import Sequence
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

WINDOW = 11

FORMAT = "{:.4f}"
MIN_SIDE = WINDOW


def of_frame(reference: Tensor, candidate: Tensor) -> float:
    """Mean SSIM over the pixels and channels of one frame; both are uint8 `[3, height, width]`."""
    _, ssim_map = structural_similarity_index_measure(
        candidate[None].float(), reference[None].float(), sigma=1.5, data_range=255.0, return_full_image=True
    )
    edge = WINDOW // 2
    return ssim_map[..., edge:-edge, edge:-edge].double().mean().item()


def over_video(per_frame: Sequence[float]) -> float:
    """Mean over the frames."""
    return fmean(per_frame)
