"""The pictures that a video is made from: opened, and brought to the video's size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vq_core.errors import VqError
from vq_core.media.images import open_image, resize_to_cover, size_of_area
from vq_core.media.video import read_video
from vq_core.sampling.prompts import ModelInputs, Sample, is_video
from vq_core.sampling.settings import Sampling

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Frames:
    """The size of one video, and what it is made from in that size.

    Attributes:
        height: of the video, in pixels.
        width: of the video, in pixels.
        image: the first frame; None where the video starts from noise alone.
        last_image: the last frame; None where it is left open.
        reference_images: what should appear in it, in sizes of their own: they are fitted onto white.
        video: what it is made over, frame by frame; empty where there is none.
        mask: what of `video` is to be made anew (white), frame by frame; empty where everything is.
    """

    height: int
    width: int
    image: "Image | None" = None
    last_image: "Image | None" = None
    reference_images: "tuple[Image, ...]" = ()
    video: "tuple[Image, ...]" = ()
    mask: "tuple[Image, ...]" = ()

    @property
    def ends(self) -> "tuple[Image, ...]":
        """The first frame, and the last where there is one."""
        return tuple(image for image in (self.image, self.last_image) if image is not None)


def open_frames(sample: Sample, inputs: ModelInputs, sampling: Sampling, multiple: int) -> Frames:
    """What of `inputs` the sample has, in the size of its video; sides are multiples of `multiple` pixels.

    A first frame or a video keeps its aspect, and height x width is the area; without them it is the size. A last
    frame and a mask are brought to the size of the others.

    Raises:
        VqError: a file is missing or cannot be decoded, or the video is shorter than what is to be made.
    """
    from PIL import Image

    height, width = sampling.height, sampling.width
    image = last_image = None
    references: tuple[Image.Image, ...] = ()
    video: tuple[Image.Image, ...] = ()
    mask: tuple[Image.Image, ...] = ()
    if "image" in inputs and sample.image is not None:
        image = open_image(sample.image)
        height, width = size_of_area(image, height, width, multiple)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        if "last_image" in inputs and sample.last_image is not None:
            last_image = resize_to_cover(open_image(sample.last_image), height, width)
    if "reference_images" in inputs:
        references = tuple(open_image(path) for path in sample.reference_images)
    if "video" in inputs and sample.video is not None:
        frames = _open_video(sample.video, sampling.num_frames)
        height, width = size_of_area(frames[0], height, width, multiple)
        video = tuple(frame.resize((width, height), Image.Resampling.BICUBIC) for frame in frames)
        if "mask" in inputs and sample.mask is not None:
            masks = _open_mask(sample.mask, sampling.num_frames)
            mask = tuple(frame.resize((width, height), Image.Resampling.NEAREST) for frame in masks)
    return Frames(height, width, image, last_image, references, video, mask)


def _open_mask(path: Path, num_frames: int) -> "list[Image]":
    frames = _open_video(path, num_frames) if is_video(path) else [open_image(path)] * num_frames
    return [frame.convert("L") for frame in frames]


def _open_video(path: Path, num_frames: int) -> "list[Image]":
    """The first `num_frames` frames."""
    from PIL import Image

    frames = read_video(path)
    if len(frames) < num_frames:
        raise VqError(
            f"{path} has {len(frames)} frames, and the video to be made over it {num_frames}: "
            "give a longer one or lower --num-frames."
        )
    return [Image.fromarray(frame) for frame in frames[:num_frames]]
