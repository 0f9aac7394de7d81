"""A random model in the place of the trained one, because the hard twin does not ask what it has learnt; and scenes."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.testing.tiny_models import build_tiny
from vq_wan_tiny.world import SAME_SIZE, SIDE, STILL, Scenes, draw_scenes

PLAIN = {"direction": STILL, "quick": False, "turning": False, "sizing": SAME_SIZE, "radius": 12.0, "angle": 0.3}


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random image-to-video pipeline; not to be changed."""
    return build_tiny("i2v", tmp_path_factory.mktemp("models") / "random")


@pytest.fixture
def scene_of() -> Callable[..., Scenes]:
    """`scene_of({"colour": 1, "start": (40, 50)}, …, pan=2)` is one clip of these shapes; what is not said is plain."""

    def build(*shapes: dict[str, Any], seed: int = 0, **clip: int) -> Scenes:
        scene = draw_scenes(1, torch.Generator().manual_seed(seed))
        scene = Scenes(*(getattr(scene, field.name).clone() for field in fields(scene)))
        scene.pan[:] = 0
        for slot, shape in enumerate(shapes):
            for name, value in ({"kind": 0, "colour": slot, "start": (SIDE / 2, SIDE / 2)} | PLAIN | shape).items():
                getattr(scene, name)[0, slot] = torch.as_tensor(value)
        return replace(scene, count=torch.tensor([len(shapes)]), **{k: torch.tensor([v]) for k, v in clip.items()})

    return build
