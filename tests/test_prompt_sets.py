"""The prompt sets that are shipped are those that tools/prompt_sets makes."""

import json

import numpy as np
import pytest
from PIL import Image

from prompt_sets.draw import SETS, file_name, seed_of
from vq_core.recipes.named_prompts import FOLDER
from vq_core.sampling.prompts import SAMPLES_FILE

REDRAWN = {"calibration": ("snow_house", "brass_gears"), "evaluation": ("watercolor_valley", "cat")}


@pytest.mark.parametrize("name", SETS)
def test_the_texts_are_those_of_the_tool(name: str) -> None:
    entries = json.loads((FOLDER / name / SAMPLES_FILE).read_text(encoding="utf-8"))
    assert entries == [
        {"image": file_name(entry), "prompt": entry.prompt, "negative_prompt": entry.negative} for entry in SETS[name]
    ]


@pytest.mark.parametrize(("name", "picture"), [(name, one) for name, some in REDRAWN.items() for one in some])
def test_a_picture_is_drawn_again(name: str, picture: str) -> None:
    (entry,) = (entry for entry in SETS[name] if entry.name == picture)
    drawn = np.asarray(entry.picture(seed_of(entry)), dtype=float)
    with Image.open(FOLDER / name / file_name(entry)) as shipped:
        difference = np.abs(np.asarray(shipped.convert("RGB"), dtype=float) - drawn)
    assert difference.mean() < 4  # what JPEG loses; decoders differ
