"""Measure one video of every folder against the reference's, with every metric that can measure it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vq_core.artifacts.made_videos import REPAIR
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.media.video_folder import LOSSLESS
from vq_eval.compare.provenance import Asked
from vq_eval.compare.schema import Figure, MeasuredVideo, VideoInfo
from vq_eval.metrics import Clip, Metric


@dataclass(frozen=True)
class Reference:
    """A decoded video of the reference, and the metrics that can measure it."""

    name: str
    clip: Clip
    asked: Asked
    metrics: Mapping[str, Metric]
    unavailable: Mapping[str, str]

    @property
    def info(self) -> VideoInfo:
        """What all videos of this name share."""
        frames, height, width, _ = self.clip.frames.shape
        return VideoInfo(
            name=self.name,
            frames=frames,
            height=height,
            width=width,
            prompt=self.asked.prompt,
            negative_prompt=self.asked.negative_prompt,
            seed=self.asked.seed,
            unavailable=dict(self.unavailable),
        )

    def measure_itself(self) -> MeasuredVideo:
        """The reference's own row: figures of the metrics that do not compare."""
        alone = {name: metric for name, metric in self.metrics.items() if not metric.COMPARES}
        return self._measured(self.clip, alone)

    def measure(self, path: Path, num_frames: int | None = None) -> MeasuredVideo:
        """The video `path`, made with `num_frames` if that is known, against this one.

        Raises:
            VqError: it is no video, or of another shape.
        """
        frames = _read(path, num_frames)
        if frames.shape != self.clip.frames.shape:
            raise VqError(
                f"`{self.name}` has {_shape_text(self.clip.frames)} in {self.clip.path} and {_shape_text(frames)} in "
                f"{path}: compare videos made with the same number of frames, height and width."
            )
        clip = Clip(path, frames, self.clip.device, self.clip.prompt, self.clip.image)
        return self._measured(clip, self.metrics)

    def _measured(self, clip: Clip, metrics: Mapping[str, Metric]) -> MeasuredVideo:
        return MeasuredVideo(
            name=self.name,
            file=clip.path.name,
            lossless=clip.path.suffix.lower() == self.clip.path.suffix.lower() == LOSSLESS,
            identical=np.array_equal(self.clip.frames, clip.frames),
            figures={name: _figure(metric, self.clip, clip) for name, metric in metrics.items()},
        )


def open_reference(
    name: str, path: Path, asked: Asked, metrics: Mapping[str, Metric], device: str, num_frames: int | None = None
) -> Reference:
    """Decode the reference's video `path` and choose those of `metrics` that can measure it.

    Raises:
        VqError: it is no video, or has not the `num_frames` that it was made with, if they are known.
    """
    clip = Clip(path, _read(path, num_frames), device, asked.prompt, asked.image)
    reasons = {name: metric.unsuited(clip) for name, metric in metrics.items()}
    return Reference(
        name,
        clip,
        asked,
        {name: metric for name, metric in metrics.items() if reasons[name] is None},
        {name: reason for name, reason in reasons.items() if reason is not None},
    )


def _read(path: Path, num_frames: int | None) -> NDArray[np.uint8]:
    frames = read_video(path)
    if num_frames not in (None, len(frames)):
        raise VqError(f"{path} has {len(frames)} frames, and {num_frames} by its manifest: {REPAIR}.")
    return frames


def _figure(metric: Metric, reference: Clip, candidate: Clip) -> Figure:
    figures = metric.measure(reference, candidate)
    per_frame = () if metric.PER == "video" else tuple(map(_or_none, figures))
    return Figure(video=_or_none(metric.over_video(figures)), per_frame=per_frame)


def _or_none(figure: float) -> float | None:
    return None if figure == math.inf else figure


def _shape_text(video: NDArray[np.uint8]) -> str:
    frames, height, width, _ = video.shape
    return f"{frames} frames of {height}x{width}"
