"""Grade a folder of videos that a stage made from a folder of prompts."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vq_core.artifacts.made_videos import made_videos, require_unaltered
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.media.video_folder import videos_in
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.runtime.progress import progress
from vq_core.sampling.prompts import FIRST_FRAME, Sample, read_samples
from vq_wan_tiny.grade import Grade, Share, grade, shares


@dataclass(frozen=True)
class GradedVideo:
    """A video, its caption and its grade."""

    path: Path
    prompt: str
    grade: Grade

    @property
    def shapes_as_told(self) -> int:
        """How many of its shapes went where the caption says, at the speed it says."""
        return sum(shape.direction and shape.speed for shape in self.grade.shapes)

    def to_json(self) -> dict[str, object]:
        """For machines; figures that are not finite are None."""
        return {
            "video": self.path.name,
            "prompt": self.prompt,
            "shapes_as_told": self.shapes_as_told,
            "shapes": [
                {**vars(shape), "miss": shape.miss if math.isfinite(shape.miss) else None}
                for shape in self.grade.shapes
            ],
            "background": self.grade.background,
            "first_frame": self.grade.first_frame,
            "first_frame_db": self.grade.first_frame_db if math.isfinite(self.grade.first_frame_db) else None,
        }


@dataclass(frozen=True)
class Grading:
    """All videos of a folder, in the order of their prompts."""

    videos: tuple[GradedVideo, ...]

    @property
    def shares(self) -> dict[str, Share]:
        """See `vq_wan_tiny.grade.shares`."""
        return shares([video.grade for video in self.videos])

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        shapes = sum(len(video.grade.shapes) for video in self.videos)
        texts = {name.replace("_", " "): share_text(share) for name, share in self.shares.items()}
        return {"videos": f"{len(self.videos)}, with {shapes} shapes"} | texts

    def to_json(self) -> dict[str, object]:
        """The same for machines, video by video."""
        return {
            "shares": {name: vars(share) for name, share in self.shares.items()},
            "videos": [video.to_json() for video in self.videos],
        }


def share_text(share: Share) -> str:
    """Such as `97.1 % (95.0 to 98.6)`."""
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def grade_videos(videos: Location, prompts: Location) -> Grading:
    """Grade `videos/000.mkv` or `.mp4` … against the captions and images of `prompts`, entry by entry.

    Raises:
        VqError: the prompts cannot be read or are not the world's; a video is missing, has no prompt, is not a video,
            is not the one that its manifest names, or is not 17 frames of 96x96; see `made_videos`.
    """
    samples = read_samples(prompts, FIRST_FRAME)
    made = made_videos(videos)
    paths = _videos_of(local_copy(videos), prompts, len(samples))
    if made is not None:
        made.require_all(paths)
    graded = []
    with progress("grade", len(samples), "video") as advance:
        for path, sample in zip(paths, samples, strict=True):
            require_unaltered(made, path)
            graded.append(_grade_one(path, sample))
            advance()
    return Grading(tuple(graded))


def _videos_of(folder: Path, prompts: Location, count: int) -> list[Path]:
    """The videos of `folder` by index; as many as there are prompts."""
    found = videos_in(folder)
    wanted = [f"{index:03d}" for index in range(count)]
    if len(found) != count:
        raise VqError(f"{folder} holds {len(found)} videos and {prompts} {count} prompts: give those it was made of.")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise VqError(f"{folder} holds no video {missing[0]}.mkv or .mp4: name them by their prompts, from 000 on.")
    return [found[name] for name in wanted]


def _grade_one(path: Path, sample: Sample) -> GradedVideo:
    (image,) = sample.opened()["image"]
    frames, first = read_video(path), np.asarray(image.image())
    try:
        return GradedVideo(path, sample.prompt, grade(frames, sample.prompt, first))
    except VqError as error:
        raise VqError(f"{path}: {error}") from None
