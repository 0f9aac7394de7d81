"""Multi-scale structural similarity (Wang, Simoncelli, Bovik, Asilomar 2003, eq. 7), 1 for equal frames.

Five scales, each half of the one before it (means of 2x2 pixels), with the paper's exponents 0.0448, 0.2856, 0.3001,
0.2363, 0.1333; the window and constants of `ssim`, in fp32. A negative mean of contrast and structure counts as 0.
Contrast and structure are averaged where the window lies wholly inside the frame. The full SSIM of the smallest scale
is averaged, as in torchmetrics, over all positions with the frame reflected at its edges. The smallest scale must hold
a window, so a frame needs 16 times 11 pixels a side.
"""

from functools import partial
from statistics import fmean

from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from vq_eval.metrics import Clip, Per, always_there, batch_of, frame_pairs, too_small

MIN_SIDE = 11 * 2**4

LABEL = "MS-SSIM"
ORDER = 30
UNIT = ""
DIGITS = 4
HIGHER_IS_BETTER = True
COMPARES = True
PER: Per = "frame"
MEANING = "structural similarity over five scales, mean over frames; 1 for equal videos"

missing = always_there
unsuited = partial(too_small, side=MIN_SIDE)
over_video = fmean


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """MS-SSIM of each frame."""
    return [of_frame(*pair) for pair in frame_pairs(reference, candidate)]


def of_frame(reference: Tensor, candidate: Tensor) -> float:
    """MS-SSIM of one frame, over its channels; both are uint8 `[3, height, width]`."""
    return multiscale_structural_similarity_index_measure(
        batch_of(candidate), batch_of(reference), sigma=1.5, data_range=255.0, normalize="relu"
    ).item()
