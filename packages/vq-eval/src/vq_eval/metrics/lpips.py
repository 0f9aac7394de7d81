"""Learned perceptual image patch similarity (Zhang et al., CVPR 2018), 0 for equal frames; version 0.1 on AlexNet.

The linear heads come with torchmetrics. The backbone is torchvision's AlexNet, whose weights must be on this machine
already: nothing is downloaded. torchvision unpickles them, so only the file that torchvision names is accepted.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import torch

from vq_core.files.tensor_file import sha256_of
from vq_eval.metrics import Clip, Per, batch_of, frame_pairs, too_small

BACKBONE = "alexnet-owt-7be5be79.pth"
DIGEST = "7be5be79"
"""The first digits of the backbone's SHA-256."""

MIN_SIDE = 32  # AlexNet's last features of a smaller frame would be empty

LABEL = "LPIPS"
ORDER = 40
UNIT = ""
DIGITS = 4
HIGHER_IS_BETTER = False
COMPARES = True
PER: Per = "frame"
MEANING = "learned perceptual distance on AlexNet's features, mean over frames; 0 for equal videos"

unsuited = partial(too_small, side=MIN_SIDE)
over_video = fmean


def missing() -> str | None:
    """Why not: no torchvision, no weights of AlexNet, or weights that are not torchvision's."""
    if find_spec("torchvision") is None:
        return "torchvision is not installed: `pip install vq-eval[lpips]`"
    path = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not path.is_file():
        return f"AlexNet's weights are not here: put torchvision's {BACKBONE} at {path}"
    if not sha256_of(path).startswith(DIGEST):
        return f"{path} is not torchvision's {BACKBONE}: its SHA-256 should begin with {DIGEST}"
    return None


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """LPIPS of each frame."""
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity  # it is there where torchvision is

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(candidate.device)
    pairs = (
        (batch_of(candidate_frame) / 255, batch_of(frame) / 255)
        for frame, candidate_frame in frame_pairs(reference, candidate)
    )
    return [metric(*pair).item() for pair in pairs]
