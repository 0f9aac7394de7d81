"""Prompts of wan-tiny's world: captions and first frames, in the layout that every stage reads."""

import json
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vq_core.errors import VqError
from vq_core.files.tensor_file import publish, write_bytes
from vq_core.remote.draft_folder import draft_folder
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_output
from vq_core.sampling.prompts import SAMPLES_FILE
from vq_wan_tiny.captions import NEGATIVE_PROMPT, caption, claims_of
from vq_wan_tiny.render import render_frames
from vq_wan_tiny.world import draw_scenes

_BATCH = 8  # clips rendered at once: about 30 MB a plane


def draw_clips(count: int, seed: int, *, held_out: bool) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """`count` clips of the world: caption and frames, uint8 RGB [17, 96, 96, 3]; the same seed gives the same.

    Args:
        count: number of clips.
        seed: of the random draw.
        held_out: draw only combinations of colour, shape and direction that training never sees, or only the others.
    """
    scenes = draw_scenes(count, torch.Generator().manual_seed(seed), held_out=held_out)
    for start in range(0, count, _BATCH):
        batch = scenes[start : start + _BATCH]
        yield from zip(map(caption, claims_of(batch)), render_frames(batch), strict=True)


def write_prompts(location: Location, count: int, seed: int, *, held_out: bool) -> list[str]:
    """Write `samples.json` and first frames `000.png` … of the clips of `draw_clips` to `location`; it appears whole.

    Returns:
        The captions.

    Raises:
        VqError: `count` is less than 1, or `location` exists.
    """
    if count < 1:
        raise VqError(f"count {count} is less than 1: ask for one prompt or more.")
    entries = []
    with local_output(location, last=SAMPLES_FILE) as folder, draft_folder(folder) as draft:
        for index, (text, frames) in enumerate(draw_clips(count, seed, held_out=held_out)):
            image = f"{index:03d}.png"
            Image.fromarray(frames[0]).save(draft / image)
            entries.append({"prompt": text, "negative_prompt": NEGATIVE_PROMPT, "image": image})
        write_bytes(draft / SAMPLES_FILE, f"{json.dumps(entries, indent=2)}\n".encode())
        publish(draft, folder)
    return [entry["prompt"] for entry in entries]
