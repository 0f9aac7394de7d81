"""Sampling settings of a model: its own `sampling.json`, else those of its authors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from vq_core.families import family_named, family_names
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.model.source import resolve_model
from vq_core.recipes.ranges import FrameCount, FrameRate, Guidance, Side, Steps
from vq_core.recipes.recipe import DEFAULTS, Defaults
from vq_core.recipes.typed_yaml import Section, validated
from vq_core.sampling.told_by_files import told_by

SAMPLING_FILE = "sampling.json"
TRANSFORMER_CONFIGS = "transformer*/config.json"


class ModelSampling(Section):
    """The keys of `sampling.json`, all optional; units as in `vq_core.recipes.recipe.Defaults`."""

    height: Side | None = None
    width: Side | None = None
    num_frames: FrameCount | None = None
    steps: Steps | None = None
    guidance_scale: Guidance | None = None
    guidance_scale_2: Guidance | None = None
    fps: FrameRate | None = None


def defaults_of(model: str) -> Defaults:
    """The settings of `model` that apply where neither an option nor the recipe gives one.

    Its own `sampling.json` comes before its authors' settings, and these before `DEFAULTS`.

    Raises:
        VqError: there is no such model; its `sampling.json` is not JSON, has an unknown key or a value of a wrong type.
    """
    folder = resolve_model(model, only=[SAMPLING_FILE, TRANSFORMER_CONFIGS])
    return DEFAULTS.with_said(_usual(folder)).with_said(said_by(folder))


def said_by(folder: Path) -> dict[str, Any]:
    """The settings in the `sampling.json` of the model in `folder`, keyed as `Defaults`; empty without that file.

    Raises:
        VqError: its `sampling.json` is not JSON, has an unknown key or a value of a wrong type.
    """
    path = folder / SAMPLING_FILE
    if not is_there(path):
        return {}
    return validated(ModelSampling, read_json(path, damaged="mend it or remove it"), path).model_dump(exclude_none=True)


def checked(said: object, where: Path) -> dict[str, Any]:
    """The settings of a model among those that the file `where` has `said`; empty if that is no mapping.

    Raises:
        VqError: a value has a wrong type or is out of its range.
    """
    if not isinstance(said, dict):
        return {}
    known = {key: value for key, value in said.items() if key in ModelSampling.model_fields}
    return validated(ModelSampling, known, where).model_dump(exclude_none=True)


def sampled_as(model: Path) -> dict[str, JsonValue]:
    """All that the files of the model in the folder or file `model` say of how it is sampled; see `told_by_files` too.

    Raises:
        VqError: one of these files is damaged or says something impossible.
    """
    return {**told_by(model), **said_by(model)}


def _usual(folder: Path) -> Mapping[str, Any]:
    """The authors' settings for the pipeline in `folder`; empty where its transformers are not known."""
    for family in map(family_named, family_names()):
        paths = [folder / name / "config.json" for name in family.COMPONENTS]
        configs = [read_json(path) for path in paths if is_there(path)]
        if configs and family.matches(configs[0]):
            family.topology(configs[0])  # refuses numbers that no model has
            return family.usual_sampling(configs[0], len(configs))
    return {}
