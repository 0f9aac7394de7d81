"""Which model a command works on: the one that is said, else the one that its artifacts were made from.

The built-in toy is taken only where nothing at all says what the user works on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.model.embedded import embedded_default
from vq_core.model.source import resolve_model
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists, local_copy
from vq_core.store.manifest import FILE_NAME

CONFIGS = ["model_index.json", "config.json", "*/config.json"]


@dataclass(frozen=True)
class ChosenModel:
    """A model as `--model` takes it; `note` is the first line of the summary where nobody chose it."""

    name: str
    note: str = ""


def chosen_model(
    said: str | None, given: Sequence[Location | None] = (), expected: Sequence[Location | None] = ()
) -> ChosenModel:
    """The model that option or recipe have `said`, else that of the first artifact, else the built-in toy.

    Args:
        said: as `--model` takes it.
        given: the artifacts that options name; None where one was not given.
        expected: where the recipe has artifacts, which need not be there yet.

    Raises:
        VqError: an artifact is given that names no model, or one that is not here; or the toy is not installed.
    """
    if said is not None:
        return ChosenModel(said)
    for location in given:
        if location is not None:
            return ChosenModel(model_of(location))
    for location in expected:
        if location is not None and exists(location / FILE_NAME):
            return ChosenModel(model_of(location))
    toy = embedded_default()
    return ChosenModel(toy, f"No --model was given: this is the built-in toy {toy}.")


def model_of(artifact: Location) -> str:
    """The model that `artifact` was made from, as its manifest names it.

    Whoever opens the model checks its fingerprint: here only a manifest and configurations are read.

    Raises:
        VqError: there is no manifest, or its model is not found.
    """
    if not exists(artifact / FILE_NAME):
        raise VqError(f"`--model` is missing, and {artifact} is no artifact that names its model: give --model.")
    name = read_json(local_copy(artifact, only=[FILE_NAME]) / FILE_NAME).get("model")
    try:
        if isinstance(name, str):
            resolve_model(name, only=CONFIGS)
            return name
    except VqError:
        pass
    raise VqError(f"`--model` is missing: {artifact} was made from {name}, which is not found here: say where it is.")
