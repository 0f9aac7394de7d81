import json
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.model.pipeline_parts import MODEL_INDEX, read_parts


def test_parts_by_name(tmp_path: Path) -> None:
    listed = {
        "_class_name": "WanPipeline",
        "_ignored": [1],
        "boundary_ratio": None,
        "vae": ["diffusers", "AutoencoderKLWan"],
        "transformer_2": [None, None],
    }
    (tmp_path / MODEL_INDEX).write_text(json.dumps(listed))
    assert read_parts(tmp_path) == {"vae": "AutoencoderKLWan"}


def test_refuses_no_list(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"model_index\.json is missing: give a whole diffusers pipeline"):
        read_parts(tmp_path)


@pytest.mark.parametrize("name", ["vae", "../vae", "a/b", ""])
@pytest.mark.parametrize("entry", [[], ["diffusers"], ["diffusers", None], ["diffusers", 3], [1, "A"], ["a", "b", "c"]])
def test_refuses_what_is_no_part(tmp_path: Path, name: str, entry: list[object]) -> None:
    (tmp_path / MODEL_INDEX).write_text(json.dumps({name: entry}))
    with pytest.raises(VqError, match=r"` in \S+model_index\.json is not the library and the class of a part"):
        read_parts(tmp_path)


@pytest.mark.parametrize("name", ["../vae", "a/b", "", "/vae"])
def test_refuses_a_part_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / MODEL_INDEX).write_text(json.dumps({name: ["diffusers", "AutoencoderKLWan"]}))
    with pytest.raises(VqError, match="is not the library and the class of a part"):
        read_parts(tmp_path)
