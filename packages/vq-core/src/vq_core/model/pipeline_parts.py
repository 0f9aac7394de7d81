"""The parts that a diffusers pipeline lists in its model_index.json."""

from pathlib import Path

from vq_core.errors import VqError
from vq_core.files.folder_content import is_file_name
from vq_core.files.json_file import read_json

PART_CONFIGS = (
    "scheduler/scheduler_config.json", "vae/config.json", "image_encoder/config.json", "transformer_2/config.json",
)  # fmt: skip
"""Files of a pipeline that say how its transformers are sampled."""
MODEL_INDEX = "model_index.json"


def read_parts(
    pipeline: Path, *, missing: str = "give a whole diffusers pipeline folder or a hub id of one"
) -> dict[str, str]:
    """The class of every part of the pipeline in the folder `pipeline`, by the part's name, which is its folder's.

    Raises:
        VqError: the list is missing or damaged, or a part's name is no folder's.
    """
    index = pipeline / MODEL_INDEX
    parts: dict[str, str] = {}
    for name, entry in read_json(index, missing=missing).items():
        if not isinstance(entry, list) or name.startswith("_"):
            continue
        if len(entry) == 2 and entry[0] is None:
            continue
        if len(entry) != 2 or not all(isinstance(said, str) for said in entry) or not is_file_name(name):
            raise VqError(f"`{name}` in {index} is not the library and the class of a part: get it again.")
        parts[name] = entry[1]
    return parts
