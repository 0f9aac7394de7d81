"""Video metrics, one module each; a module's name is the metric's name.

Adding a metric is adding a file here that fulfils `Metric`. A package of its own may bring others, under the entry
points `vq_eval.metrics`: their names are the metrics', their values the modules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vq_core.discover import load_plugin, plugin_names
from vq_core.errors import VqError

if TYPE_CHECKING:
    from torch import Tensor

ENTRY_POINTS = "vq_eval.metrics"

Per = Literal["frame", "step", "video"]


@dataclass(frozen=True)
class Clip:
    """One video, and what is known of it.

    Attributes:
        path: its file, for metrics that are other programs.
        frames: uint8 RGB `[frames, height, width, 3]`.
        device: where to compute.
        prompt: what it was to show; None where that is not known.
        image: the picture it was to start from, uint8 RGB `[height, width, 3]`; None where that is not known.
    """

    path: Path
    frames: NDArray[np.uint8]
    device: str = "cpu"
    prompt: str | None = None
    image: NDArray[np.uint8] | None = None


class Metric(Protocol):
    """What a module of this package offers. A figure may be infinite, which means "no difference", but never NaN."""

    LABEL: str
    """Its name in tables."""

    ORDER: int
    """Its place in tables among `all`, the lowest first."""

    UNIT: str
    """Of its figures; empty where they have none."""

    DIGITS: int
    """Decimals worth showing."""

    HIGHER_IS_BETTER: bool

    COMPARES: bool
    """Whether it compares two videos; where it does not, it looks at the candidate alone."""

    PER: Per
    """What each of the figures that `measure` gives belongs to."""

    MEANING: str
    """One line for people."""

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine and what to do about it; None where it can."""

    def unsuited(self, clip: Clip) -> str | None:
        """Why it cannot be measured on videos like `clip`, such as "it needs 11x11 pixels"; None where it can."""

    def measure(self, reference: Clip, candidate: Clip) -> Sequence[float]:
        """One figure for each frame, step or video; both have the same shape."""

    def over_video(self, figures: Sequence[float]) -> float:
        """Figure of a whole video from what `measure` gives."""


def metric_names() -> list[str]:
    """Names of all metrics, ours and those that other packages bring, sorted."""
    return sorted({*plugin_names(__name__), *entry_points(group=ENTRY_POINTS).names})


def load_metric(name: str) -> Metric:
    """The metric `name`.

    Raises:
        VqError: there is no such metric; the message lists the known ones.
    """
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return cast(Metric, entry.load())
    if name not in plugin_names(__name__):
        raise VqError(f"`{name}` is not one of the metrics ({', '.join(metric_names())}): choose of those.")
    return cast(Metric, load_plugin(__name__, name))


def too_small(clip: Clip, side: int) -> str | None:
    """The reason against videos with a shorter side than `side` pixels; None for others."""
    _, height, width, _ = clip.frames.shape
    if min(height, width) >= side:
        return None
    return f"it needs at least {side}x{side} pixels, and the video has {height}x{width}"


def single_frame(clip: Clip) -> str | None:
    """The reason against videos of one frame, which have no step; None for others."""
    return "it needs two frames, and the video has one" if len(clip.frames) < 2 else None


def frame_pairs(reference: Clip, candidate: Clip) -> "Iterator[tuple[Tensor, Tensor]]":
    """Frame by frame, uint8 `[3, height, width]` on the device: one at a time, because fp32 intermediates are large."""
    yield from zip(frames_of(reference), frames_of(candidate), strict=True)


def frames_of(clip: Clip) -> "Iterator[Tensor]":
    """The frames, uint8 `[3, height, width]`, on the device."""
    import torch

    for frame in clip.frames:  # copied, because torch takes no read-only memory
        yield torch.from_numpy(frame.copy()).to(clip.device).permute(2, 0, 1)


def batch_of(frame: "Tensor") -> "Tensor":
    """`frame`, `[3, height, width]`, as fp32 `[1, 3, height, width]` for the convolutions of torchmetrics.

    A frame from `frames_of` has its channels innermost in memory. Written this way, torch sees that in the batch too,
    and on a CPU convolves more than twice as fast.
    """
    return frame.permute(1, 2, 0)[None].permute(0, 3, 1, 2).float()
