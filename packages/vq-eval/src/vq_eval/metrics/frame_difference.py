"""Frame-difference error: how far the change from frame to frame is from the reference's.

For the step from frame t to t + 1: the root mean square over pixels and channels of (c[t+1] - c[t]) - (r[t+1] - r[t]),
in 8-bit levels, with c the candidate and r the reference. This is the dtSSD of Erofeev et al. ("Perceptually motivated
benchmark for video matting", BMVC 2015, section 4) on colours. An error that is the same in all frames does not count;
one that changes from frame to frame, visible as flicker or wrong motion, counts in full.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from torch import Tensor
from torchmetrics.functional import mean_squared_error

from vq_eval.metrics import Clip, Per, always_there, frame_pairs, single_frame

LABEL = "Frame difference"
ORDER = 60
UNIT = "levels"
DIGITS = 2
HIGHER_IS_BETTER = False
COMPARES = True
PER: Per = "step"
MEANING = "root mean square error of the change from frame to frame, in levels of 255; 0 for equal motion"

missing = always_there
unsuited = single_frame


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """The error of each step, `frames - 1` figures."""
    return [of_step(*before, *after) for before, after in pairwise(frame_pairs(reference, candidate))]


def of_step(reference: Tensor, candidate: Tensor, next_reference: Tensor, next_candidate: Tensor) -> float:
    """The error of one step, in levels; all are uint8 `[3, height, width]`."""
    change = next_candidate.double() - candidate.double()
    expected = next_reference.double() - reference.double()
    # Contiguous, because torchmetrics takes a view.
    return mean_squared_error(change.contiguous(), expected.contiguous(), squared=False).item()


def over_video(figures: Sequence[float]) -> float:
    """The root mean square over all pixels of all steps."""
    return math.sqrt(fmean(figure**2 for figure in figures))
