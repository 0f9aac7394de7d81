"""Video metrics, one module each; a module's name is the metric's name.

To add a metric, add a file here that implements `Metric`. Another package can bring metrics under the entry points
`vq_eval.metrics`: name of the metric = module or object.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from vq_core.discover import installed_names, load_installed, load_plugin, plugin_names
from vq_core.errors import VqError

if TYPE_CHECKING:
    from torch import Tensor

ENTRY_POINTS = "vq_eval.metrics"

Per = Literal["frame", "step", "video"]


@dataclass(frozen=True)
class Clip:
    """One video, and what it was made from.

    Attributes:
        path: its file, for metrics that are other programs.
        frames: uint8 RGB `[frames, height, width, 3]`.
        device: where to compute.
        prompt: the text; None where it is not known.
        image: the first frame that was given, uint8 RGB `[height, width, 3]`; None where there was none.
    """

    path: Path
    frames: NDArray[np.uint8]
    device: str = "cpu"
    prompt: str | None = None
    image: NDArray[np.uint8] | None = None


class Metric(Protocol):
    """What a metric's module offers. A figure may be infinite, which means "no difference", but never NaN."""

    LABEL: str
    """Its name in tables."""

    ORDER: int
    """Its place in tables; the lowest comes first."""

    UNIT: str
    """Unit of its figures; empty where they have none."""

    DIGITS: int
    """Decimals worth showing."""

    HIGHER_IS_BETTER: bool

    COMPARES: bool
    """Whether it compares two videos; otherwise it measures the candidate alone."""

    PER: Per
    """What each figure of `measure` belongs to."""

    MEANING: str
    """One line for people."""

    def missing(self) -> str | None:
        """Why it cannot be measured on this machine and what to do about it; None where it can."""

    def unsuited(self, clip: Clip) -> str | None:
        """Why it cannot be measured on videos like `clip`, such as "it needs 11x11 pixels"; None where it can."""

    def measure(self, reference: Clip, candidate: Clip) -> Sequence[float]:
        """One figure for each frame, step or video; both have the same shape."""

    def over_video(self, figures: Sequence[float]) -> float:
        """Figure of a whole video from the figures of `measure`."""


def metric_names() -> list[str]:
    """Names of all metrics, ours and those of other packages, sorted."""
    return sorted({*plugin_names(__name__), *installed_names(ENTRY_POINTS)})


def load_metric(name: str) -> Metric:
    """The metric `name`.

    Raises:
        VqError: there is no such metric; the message lists the known ones.
    """
    installed = load_installed(ENTRY_POINTS, name)
    if installed is not None:
        return cast(Metric, installed)
    if name not in plugin_names(__name__):
        raise VqError(f"`{name}` is not one of the metrics ({', '.join(metric_names())}): choose one of those.")
    return cast(Metric, load_plugin(__name__, name))


def always_there() -> None:
    """The `missing` of a metric that needs nothing but what vq-eval installs."""


def too_small(clip: Clip, side: int) -> str | None:
    """Why a video with a side below `side` pixels cannot be measured; None for others."""
    _, height, width, _ = clip.frames.shape
    if min(height, width) >= side:
        return None
    return f"it needs at least {side}x{side} pixels, and the video has {height}x{width}"


def single_frame(clip: Clip) -> str | None:
    """Why a video of one frame cannot be measured by steps; None for others."""
    return "it needs two frames, and the video has one" if len(clip.frames) < 2 else None


def frame_pairs(reference: Clip, candidate: Clip) -> "Iterator[tuple[Tensor, Tensor]]":
    """Frame by frame, uint8 `[3, height, width]` on the device: one at a time, because fp32 intermediates are large."""
    yield from zip(frames_of(reference), frames_of(candidate), strict=True)


def frames_of(clip: Clip) -> "Iterator[Tensor]":
    """The frames, uint8 `[3, height, width]`, on the device."""
    import torch

    for frame in clip.frames:  # copied, because torch warns of read-only memory
        yield torch.from_numpy(frame.copy()).to(clip.device).permute(2, 0, 1)


def batch_of(frame: "Tensor") -> "Tensor":
    """`frame`, `[3, height, width]`, as fp32 `[1, 3, height, width]` for the convolutions of torchmetrics.

    A frame from `frames_of` has its channels innermost in memory. Permuted this way the batch keeps that layout, and
    torch convolves more than twice as fast on a CPU.
    """
    return frame.permute(1, 2, 0)[None].permute(0, 3, 1, 2).float()
