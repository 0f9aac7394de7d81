"""The sets that come with the package: complete, varied, and with nothing in common."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.media.images import open_image
from vq_core.recipes.named_prompts import FOLDER, is_prompt_set, prompt_set_names, resolve_prompts
from vq_core.remote.location import Uri
from vq_core.sampling.prompts import FIRST_FRAME, SAMPLES_FILE, TEXT_ONLY, Sample, read_samples

NAMES = ("calibration", "evaluation")
MOTIONS = {  # what each set has to show at least once, as words of its prompts
    "camera": ("camera", "shot", "镜头"),
    "people": ("astronaut", "friends", "runner", "people", "女子"),
    "animals": ("horse", "dog", "fox", "cat ", "fish"),
    "water": ("wave", "water", "sea", "水面"),
    "fire": ("fire",),
    "machines": ("gears", "car", "train", "taxi"),
    "crowds": ("crowd", "人群"),
    "fast": ("fast", "full speed", "quickly", "sprints"),
    "slow": ("slow", "缓缓"),
    "close": ("close-up", "macro", "微距", "特写"),
    "night": ("night", "夜"),
    "writing": ('"OPEN"', '"CAFE PARIS"'),
    "drawings": ("drawing", "sketch", "水彩"),
}


def samples_of(name: str) -> list[Sample]:
    return read_samples(Path(f"builtin:{name}"), FIRST_FRAME)


def test_the_names() -> None:
    assert tuple(prompt_set_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_llmc_s_format_and_large_enough(name: str) -> None:
    entries = json.loads((FOLDER / name / SAMPLES_FILE).read_text(encoding="utf-8"))
    assert len(entries) >= 32
    assert all(entry.keys() == {"image", "prompt", "negative_prompt"} for entry in entries)
    images = {path.name for path in (FOLDER / name).iterdir()} - {SAMPLES_FILE}
    assert images == {entry["image"] for entry in entries}  # none is missing, none is left over
    assert len(read_samples(Path(f"builtin:{name}"), TEXT_ONLY)) == len(entries)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_varied(name: str) -> None:
    samples = samples_of(name)
    sizes = Counter(open_image(sample.image).size for sample in samples if sample.image is not None)
    assert len(sizes) >= 5
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)
    assert all(300 <= side <= 1024 for size in sizes for side in size)
    chinese = [sample for sample in samples if any("一" <= letter <= "鿿" for letter in sample.prompt)]
    assert 4 <= len(chinese) <= len(samples) // 2
    everything = "\n".join(sample.prompt for sample in samples)
    assert [
        motion
        for motion, words in MOTIONS.items()
        if not any(word in everything.lower() or word in everything for word in words)
    ] == []
    assert any(not sample.negative_prompt for sample in samples)
    assert any(sample.negative_prompt for sample in samples)


def test_no_prompt_and_no_image_is_used_twice() -> None:
    samples = [sample for name in NAMES for sample in samples_of(name)]
    prompts = {sample.prompt.casefold() for sample in samples}
    pixels = {hashlib.sha256(open_image(sample.image).tobytes()).digest() for sample in samples if sample.image}
    files = {digest for sample in samples for digest in sample.digests()["image"]}
    assert len(prompts) == len(pixels) == len(files) == len(samples)


def test_the_sets_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3e6


def test_what_is_no_name_is_a_place() -> None:
    for location in (Path("calibration"), Uri("s3", "bucket/builtin")):
        assert resolve_prompts(location) is location
    assert not is_prompt_set("calibration")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        VqError, match="There is no prompt set builtin:test: choose from builtin:calibration, builtin:evaluation"
    ):
        resolve_prompts(Path("builtin:test"))
