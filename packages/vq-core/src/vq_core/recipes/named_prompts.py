"""Prompt sets that come with the package and are named `builtin:calibration` and `builtin:evaluation`.

Both have images, for image-to-video; text-to-video ignores them. They share no prompt and no image. The images were
drawn for this project or are public-domain photographs from scikit-image: see docs/prompt_sets.md.
"""

from pathlib import Path

from vq_core.errors import VqError
from vq_core.remote.location import Location

FOLDER = Path(__file__).parent / "prompt_sets"
PREFIX = "builtin:"


def prompt_set_names() -> list[str]:
    """Names of the sets, sorted."""
    return sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


def is_prompt_set(text: str) -> bool:
    """Whether `text` has the form of a built-in set, known or not."""
    return text.startswith(PREFIX)


def resolve_prompts(location: Location) -> Location:
    """The folder of the built-in set that `location` names; `location` itself otherwise.

    Raises:
        VqError: there is no set of that name.
    """
    text = str(location)
    if not is_prompt_set(text):
        return location
    name = text.removeprefix(PREFIX)
    if name not in prompt_set_names():
        raise VqError(
            f"There is no prompt set {text}: choose from {', '.join(PREFIX + it for it in prompt_set_names())}."
        )
    return FOLDER / name
