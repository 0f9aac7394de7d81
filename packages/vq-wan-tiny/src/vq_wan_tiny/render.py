"""Scenes to pixels: every frame is computed from its formula, so motion is exact to a fraction of a pixel."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vq_wan_tiny.shapes import COLOURS, OUTLINE_ANGLES, outlines
from vq_wan_tiny.world import FRAMES, SIDE, TURN, Scenes, pan_way, size_ratio, way

EDGE_PIXELS = 0.7  # softness of an outline
SHADOW_OFFSET, SHADOW_PIXELS, SHADOW_DEPTH = 2.5, 2.5, 0.35
BACKLIGHT = 0.35  # how much darker a shape is on the side away from the light


def render(scenes: Scenes) -> Tensor:
    """The clips as float32 RGB in -1..1: [N, 3, 17, 96, 96]."""
    time, pixels = _grid(scenes)
    camera = pan_way(scenes.pan)[:, None] * time[:, None]  # [N, frames, 2]
    picture = _background(scenes, pixels - camera[:, :, None, None])
    for slot in range(_slots(scenes)):
        offset, radius, angle, outline = _pose(scenes, slot)
        shadow = _coverage(offset - SHADOW_OFFSET, radius, angle, outline, SHADOW_PIXELS)
        away = (offset * _light_direction(scenes)[:, None, None, None]).sum(-1) / radius[..., None, None]
        shade = 1 - BACKLIGHT * torch.sigmoid(-3 * away)
        here = scenes.present[:, slot, None, None, None].float()
        picture = picture * (1 - SHADOW_DEPTH * here * shadow)[:, None]
        colour = _colours(scenes, slot)[..., None, None, None] * shade[:, None]
        cover = (here * _coverage(offset, radius, angle, outline, EDGE_PIXELS))[:, None]
        picture = picture + cover * (colour - picture)
    return picture.clamp(0, 1) * 2 - 1


def render_frames(scenes: Scenes) -> NDArray[np.uint8]:
    """The clips as videos hold them, RGB [N, 17, 96, 96, 3]."""
    return (render(scenes) + 1).mul(127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


def shape_mask(scenes: Scenes) -> Tensor:
    """How much of each pixel any shape covers, 0..1: [N, 17, 96, 96]."""
    bare = torch.ones(())
    for slot in range(_slots(scenes)):
        here = scenes.present[:, slot, None, None, None].float()
        bare = bare.to(here) * (1 - here * _coverage(*_pose(scenes, slot), EDGE_PIXELS))
    return 1 - bare


def _slots(scenes: Scenes) -> int:
    """Slots that any clip uses: they are filled from the first on."""
    return int(scenes.count.max())


def _grid(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Time of each frame, 0..1 [17], and centre of each pixel (x, y) [96, 96, 2]."""
    axis = torch.arange(SIDE, device=scenes.count.device) + 0.5
    return torch.linspace(0, 1, FRAMES, device=axis.device), torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def _pose(scenes: Scenes, slot: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels from the centre [N, frames, 96, 96, 2], radius and angle [N, frames] and outline [N, 360] of a slot."""
    time, pixels = _grid(scenes)
    shift = way(scenes.direction[:, slot], scenes.quick[:, slot]) + pan_way(scenes.pan)
    centre = scenes.start[:, slot, None] + shift[:, None] * time[:, None]
    radius = scenes.radius[:, slot, None] * size_ratio(scenes.sizing[:, slot])[:, None] ** time
    angle = scenes.angle[:, slot, None] + TURN * scenes.turning[:, slot, None] * time
    return pixels - centre[:, :, None, None], radius, angle, outlines().to(time.device)[scenes.kind[:, slot]]


def _background(scenes: Scenes, place: Tensor) -> Tensor:
    """Colour of the ground at `place` [N, frames, 96, 96, 2]: [N, 3, frames, 96, 96]."""
    arguments = torch.einsum("nfyxc,nwc->wnfyx", place, scenes.waves)
    height = torch.sin(arguments + scenes.phases.T[:, :, None, None, None])
    blobs = height[2:].sum(0) / 2.5
    figure = torch.stack((height[:2].sum(0) / 2.5, torch.tanh(3 * height[0]), torch.tanh(4 * height[0] * height[1])))
    figure = figure[scenes.pattern, torch.arange(len(scenes), device=place.device)]
    light = 1 + ((place - SIDE / 2) * scenes.light[:, None, None, None]).sum(-1)
    relief = scenes.relief[:, :, None, None, None] * (0.6 * figure + 0.6 * blobs)[:, None]
    return ((scenes.ground[:, :, None, None, None] + relief) * light[:, None]).clamp(0.02, 0.98)


def _coverage(offset: Tensor, radius: Tensor, angle: Tensor, outline: Tensor, softness: float) -> Tensor:
    """How much of each pixel a shape covers, 0..1: [N, frames, 96, 96]."""
    distance = offset.norm(dim=-1)
    bearing = torch.atan2(offset[..., 1], offset[..., 0]) - angle[..., None, None]
    index = (bearing * (OUTLINE_ANGLES / (2 * math.pi))).round().long() % OUTLINE_ANGLES
    edge = outline.gather(1, index.flatten(1)).view_as(index) * radius[..., None, None]
    return torch.sigmoid((edge - distance) / softness)


def _light_direction(scenes: Scenes) -> Tensor:
    """Where the light comes from, a unit vector (x, y) or nothing [N, 2]."""
    return scenes.light / scenes.light.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def _colours(scenes: Scenes, slot: int) -> Tensor:
    """RGB of the shapes in a slot, 0..1: [N, 3]."""
    jitter, saturation, value = scenes.tint[:, slot].unbind(-1)
    hue = scenes.colour[:, slot] * (360 / len(COLOURS)) + jitter
    # HSV to RGB: channel n is V − V·S·max(0, min(k, 4 − k, 1)) with k = (n + H/60) mod 6 for n = 5, 3, 1.
    k = (torch.tensor([5, 3, 1], device=hue.device) + hue[:, None] / 60) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))
