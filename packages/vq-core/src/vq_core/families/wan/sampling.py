"""Sampling settings that the authors of each published Wan use."""

from collections.abc import Mapping
from typing import Any

from vq_core.families.wan.kinds import find_kind

# By native model type and number of experts. The low-noise expert has the guidance of the other where none is given.
USUAL: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("t2v", 1): {"steps": 50, "height": 480, "width": 832, "num_frames": 81, "fps": 16, "guidance_scale": 5.0},
    ("i2v", 1): {"steps": 40, "height": 480, "width": 832, "num_frames": 81, "fps": 16, "guidance_scale": 5.0},
    ("flf2v", 1): {"steps": 50, "height": 720, "width": 1280, "num_frames": 81, "fps": 16, "guidance_scale": 5.0},
    ("vace", 1): {"steps": 50, "height": 480, "width": 832, "num_frames": 81, "fps": 16, "guidance_scale": 5.0},
    ("ti2v", 1): {"steps": 50, "height": 704, "width": 1280, "num_frames": 121, "fps": 24, "guidance_scale": 5.0},
    ("t2v", 2): {
        "steps": 40, "height": 480, "width": 832, "num_frames": 81, "fps": 16,
        "guidance_scale": 4.0, "guidance_scale_2": 3.0,
    },
    ("i2v", 2): {"steps": 40, "height": 480, "width": 832, "num_frames": 81, "fps": 16, "guidance_scale": 3.5},
    ("vace", 2): {"steps": 40, "height": 480, "width": 832, "num_frames": 81, "fps": 16, "guidance_scale": 3.5},
}  # fmt: skip


def usual_sampling(config: Mapping[str, Any], experts: int) -> Mapping[str, Any]:
    """The authors' sampling settings for this transformer `config` (diffusers' keys), keyed as `Defaults`.

    One transformer of a pair is sampled as the pair is. Empty for a combination that was never published.
    """
    kind = find_kind(config, experts) or find_kind(config, 2)
    return {} if kind is None else USUAL[kind.model_type, kind.experts]
