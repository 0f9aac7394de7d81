"""What a model says of how it is best sampled: `sampling.json` in its pipeline folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from vq_core.files.json_file import read_json
from vq_core.model.source import resolve_model
from vq_core.recipes.recipe import DEFAULTS, Defaults
from vq_core.recipes.typed_yaml import Section, validated

SAMPLING_FILE = "sampling.json"


class ModelSampling(Section):
    """The keys of `sampling.json`, all optional; units as in `vq_core.recipes.recipe.Defaults`."""

    height: PositiveInt | None = None
    width: PositiveInt | None = None
    num_frames: PositiveInt | None = None
    steps: PositiveInt | None = None
    guidance_scale: float | None = None
    fps: PositiveInt | None = None


def defaults_of(model: str) -> Defaults:
    """What holds for `model` where neither an option nor a recipe says anything: its own settings before `DEFAULTS`.

    Raises:
        VqError: there is no such model; its `sampling.json` is not JSON, has an unknown key or a value of a wrong type.
    """
    return replace(DEFAULTS, **said_by(resolve_model(model, only=[SAMPLING_FILE])))


def said_by(folder: Path) -> dict[str, Any]:
    """What the model in `folder` says of its sampling, by the names of `Defaults`; empty where it says nothing.

    Raises:
        VqError: its `sampling.json` is not JSON, has an unknown key or a value of a wrong type.
    """
    path = folder / SAMPLING_FILE
    if not path.is_file():
        return {}
    return validated(ModelSampling, read_json(path, damaged="mend it or remove it"), path).model_dump(exclude_none=True)
