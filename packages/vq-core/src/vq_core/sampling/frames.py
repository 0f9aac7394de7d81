"""The pictures that a video is made from: opened, and brought to the video's size."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vq_core.errors import VqError
from vq_core.media.images import resize_to_cover, size_of_area
from vq_core.sampling.opened_files import OpenedFile
from vq_core.sampling.prompts import ModelInputs, Sample
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


def size_of_frames(sample: Sample, inputs: ModelInputs, sampling: Sampling, multiple: int) -> tuple[int, int]:
    """Height and width of the video of `sample`, multiples of `multiple` pixels; nothing is decoded again.

    A first frame or a video keeps its aspect, and height x width is the area; without them it is the size.

    Raises:
        VqError: a file is missing or cannot be decoded, is too narrow, or is a video shorter than the one to be made.
    """
    given = _given(sample, inputs)
    size = (sampling.height, sampling.width)
    for key in ("image", "video"):
        for file in given.get(key, []):
            size = size_of_area(file.size, *size, multiple)
    for key in ("video", "mask"):
        for file in given.get(key, []):
            _require_length(file, sampling.num_frames)
    for file in given.get("reference_images", []):
        side = min(file.size)
        if side < multiple or int(side * min(size[0] / file.size[1], size[1] / file.size[0])) == 0:
            raise VqError(
                f"{file.path} has {file.size[0]}x{file.size[1]} pixels, too few on one side for a reference: "
                "give a larger picture, or one that is less narrow."
            )
    return size


def open_frames(sample: Sample, inputs: ModelInputs, sampling: Sampling, multiple: int) -> Frames:
    """The files of the sample that are among `inputs`, in the size of its video, see `size_of_frames`.

    A last frame and a mask are brought to the size of the others.

    Raises:
        VqError: see `size_of_frames`, or a file was changed since it was opened.
    """
    from PIL import Image

    height, width = size_of_frames(sample, inputs, sampling, multiple)
    given = _given(sample, inputs)
    image = last_image = None
    video: tuple[Image.Image, ...] = ()
    mask: tuple[Image.Image, ...] = ()
    if "image" in given:
        image = given["image"][0].image().resize((width, height), Image.Resampling.BICUBIC)
        if "last_image" in given:
            last_image = resize_to_cover(given["last_image"][0].image(), height, width)
    if "video" in given:
        video = tuple(
            frame.resize((width, height), Image.Resampling.BICUBIC)
            for frame in _frames(given["video"][0], sampling.num_frames)
        )
        if "mask" in given:
            mask = tuple(
                frame.convert("L").resize((width, height), Image.Resampling.NEAREST)
                for frame in _frames(given["mask"][0], sampling.num_frames)
            )
    references = tuple(file.image() for file in given.get("reference_images", []))
    return Frames(height, width, image, last_image, references, video, mask)


def _given(sample: Sample, inputs: ModelInputs) -> dict[str, list[OpenedFile]]:
    return {key: files for key, files in sample.opened().items() if key in inputs}


def _frames(file: OpenedFile, num_frames: int) -> "list[Image]":
    """The first `num_frames` frames of a video, or a picture for every frame."""
    from PIL import Image

    if file.length is None:
        return [file.image()] * num_frames
    return [Image.fromarray(frame) for frame in file.video()[:num_frames]]


def _require_length(file: OpenedFile, num_frames: int) -> None:
    if file.length is not None and file.length < num_frames:
        raise VqError(
            f"{file.path} has {file.length} frames, and the video to be made over it {num_frames}: "
            "give a longer one or lower --num-frames."
        )
