"""Models that are installed as packages and known by a name: entry points of the group `vq_core.models`.

An entry point's name is what users type, and its value a function without arguments that gives the model's folder.
"""

from pathlib import Path

from vq_core.discover import installed_names, load_installed
from vq_core.errors import VqError

GROUP = "vq_core.models"
DEFAULT_MODEL = "wan-tiny"
OUR_MODELS = dict.fromkeys(("wan-tiny", "wan-tiny-hard", "wan-tiny-harder"), "vq-wan-tiny")
"""The package that brings each of our own, so that a missing one can be named."""


def embedded_names() -> list[str]:
    """Sorted names of the embedded models that are installed."""
    return installed_names(GROUP)


def embedded_model(name: str) -> Path | None:
    """Folder of the embedded model `name`; None if there is no such model.

    Raises:
        VqError: it is one of ours and its package is not installed.
    """
    folder_of = load_installed(GROUP, name)
    if folder_of is not None:
        folder: Path = folder_of()
        return folder
    if name in OUR_MODELS:
        raise VqError(f"The built-in model {name} is not installed: `pip install {OUR_MODELS[name]}`.")
    return None


def embedded_default() -> str:
    """The built-in model that commands take where nothing says which; it makes videos from images.

    Raises:
        VqError: it is not installed.
    """
    if DEFAULT_MODEL not in embedded_names():
        raise VqError(
            "`--model` is missing: give it, or a --recipe that says it, "
            f"or `pip install {OUR_MODELS[DEFAULT_MODEL]}` for a built-in model."
        )
    return DEFAULT_MODEL
