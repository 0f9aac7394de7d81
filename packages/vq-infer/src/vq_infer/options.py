"""What can be said on the command line; free of heavy imports."""

from dataclasses import dataclass
from typing import Literal

from vq_core.location import Location

Task = Literal["i2v", "t2v", "vace"]
EngineName = Literal["native", "lightx2v"]


@dataclass(frozen=True)
class Options:
    """What was said on the command line; None where nothing was."""

    model: str | None = None
    checkpoint: Location | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    image: Location | None = None
    last_image: Location | None = None
    reference_images: tuple[Location, ...] = ()
    video: Location | None = None
    mask: Location | None = None
    output: Location | None = None
    engine: EngineName = "native"
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    fps: int | None = None
    seed: int | None = None
    device: str | None = None
    recipe: Location | None = None
    lightx2v_python: str | None = None
    backend: str | None = None
