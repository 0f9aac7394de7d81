"""Flicker of one video: the mean absolute difference of successive frames, in 8-bit levels.

VBench's temporal flickering (Huang et al., CVPR 2024, section 3.1.1) is 1 - flicker / 255. Motion counts like flicker:
compare the figure with the reference's, which moves as much. More is flicker or noise, much less is lost motion.
"""

from itertools import pairwise
from statistics import fmean

from torchmetrics.functional import mean_absolute_error

from vq_eval.metrics import Clip, Per, always_there, frames_of, single_frame

LABEL = "Flicker"
ORDER = 70
UNIT = "levels"
DIGITS = 2
HIGHER_IS_BETTER = False
COMPARES = False
PER: Per = "step"
MEANING = "mean absolute difference of successive frames in levels of 255, motion included: see the reference's"

missing = always_there
unsuited = single_frame
over_video = fmean


def measure(reference: Clip, candidate: Clip) -> list[float]:  # of the candidate alone
    """The mean absolute difference of each step of the candidate, `frames - 1` figures."""
    frames = (frame.double().contiguous() for frame in frames_of(candidate))  # torchmetrics takes a view
    return [mean_absolute_error(after, before).item() for before, after in pairwise(frames)]
