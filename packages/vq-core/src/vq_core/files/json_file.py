"""Reading a JSON object from a file."""

import json
from pathlib import Path
from typing import Any

from vq_core.errors import VqError


def read_json(
    path: Path, *, missing: str = "give a whole model folder", damaged: str = "get it again"
) -> dict[str, Any]:
    """The JSON object in `path`; `missing` and `damaged` say what to do where there is none.

    Raises:
        VqError: the file is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # not a directory: the folder that was given is a file
        raise VqError(f"{path} is missing: {missing}.") from None
    except ValueError as error:
        raise VqError(f"{path} is not JSON ({error}): {damaged}.") from None
    if not isinstance(content, dict):
        raise VqError(f"{path} is not a JSON object: {damaged}.")
    return content
