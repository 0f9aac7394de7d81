import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.remote.location import parse_location
from vq_core.sampling.prompts import FIRST_FRAME, TEXT_ONLY, ModelInputs, Sample, read_samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one image beside the samples to be written."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "kite.png")
    return tmp_path


def write(folder: Path, content: Any) -> Path:
    (folder / "samples.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_reads_every_field_with_images_relative_to_the_file(folder: Path) -> None:
    write(
        folder,
        [{"image": "kite.png", "prompt": "放风筝", "negative_prompt": "blurred"}, {"prompt": "b", "image": "kite.png"}],
    )
    expected = [Sample("放风筝", "blurred", folder / "kite.png"), Sample("b", "", folder / "kite.png")]
    assert read_samples(folder, FIRST_FRAME) == expected
    assert read_samples(folder / "samples.json", FIRST_FRAME) == expected


@pytest.mark.parametrize("said", ["memory://prompts", "memory://prompts/samples.json"])
def test_prompts_in_a_bucket_and_no_more_than_they_name(folder: Path, memory: MemoryFileSystem, said: str) -> None:
    write(folder, [{"prompt": "a", "image": "kite.png"}])
    for name in ("samples.json", "kite.png"):
        memory.pipe(f"/prompts/{name}", (folder / name).read_bytes())
    memory.pipe("/prompts/model/huge.bin", b"huge")
    (sample,) = read_samples(parse_location(said), FIRST_FRAME)
    assert sample.image is not None
    assert sample.image.read_bytes() == (folder / "kite.png").read_bytes()
    if said.endswith(".json"):
        assert not (sample.image.parent / "model").exists()


def test_refuses_a_json_in_a_bucket_whose_image_is_missing(folder: Path, memory: MemoryFileSystem) -> None:
    memory.pipe("/prompts/samples.json", b'[{"prompt": "a", "image": "kite.png"}]')
    with pytest.raises(VqError, match=r"The image .*kite\.png is missing"):
        read_samples(parse_location("memory://prompts/samples.json"), FIRST_FRAME)


def test_text_to_video_leaves_images_alone(folder: Path) -> None:
    write(folder, [{"prompt": "a", "image": "nowhere.png"}, {"prompt": "b", "negative_prompt": None}])
    assert read_samples(folder, TEXT_ONLY) == [Sample("a"), Sample("b")]


def test_refuses_a_folder_without_samples(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"samples\.json is missing: give a folder"):
        read_samples(tmp_path, TEXT_ONLY)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'[\n  {"prompt": "a"}\n  {"prompt": "b"}\n]', r"is not JSON \(.*line 3 .*correct it"),
        (b'[{"prompt": "\xff\xfe"}]', r"is not JSON \(.*byte 0xff in position 13"),
    ],
)
def test_refuses_what_is_not_json(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "samples.json").write_bytes(content)
    with pytest.raises(VqError, match=sentence):
        read_samples(tmp_path, TEXT_ONLY)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"prompt": "a"}, r"samples\.json is not a list: write"),
        ([], r"samples\.json is an empty list: give at least one prompt"),
        ([{"prompt": "a"}, "b"], r"Entry 1 of .*samples\.json is not an object"),
        ([{"negative_prompt": "a"}], r"Entry 0 of .*samples\.json has no `prompt`: write one"),
        ([{"prompt": "  "}], r"Entry 0 of .*samples\.json has no `prompt`: write one"),
        ([{"prompt": 3}], r"Entry 0 of .*samples\.json has a `prompt` that is int, not text"),
        ([{"prompt": "a", "seed": 1}], r"Entry 0 of .* has the unknown key `seed`: the keys are prompt, negative"),
    ],
)  # fmt: skip
def test_refuses_malformed_samples(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        read_samples(write(tmp_path, content), TEXT_ONLY)


FIRST_AND_LAST = ModelInputs(required=("image", "last_image"))
VACE = ModelInputs(optional=("reference_images", "video", "mask"))


def test_reads_a_last_frame_where_the_model_has_one(folder: Path) -> None:
    write(folder, [{"prompt": "a", "image": "kite.png", "last_image": "kite.png", "video": "nowhere.mp4"}])
    kite = folder / "kite.png"
    assert read_samples(folder, FIRST_AND_LAST) == [Sample("a", "", kite, kite)]
    assert read_samples(folder, FIRST_FRAME) == [Sample("a", "", kite)]


def test_reads_what_steers_vace(folder: Path) -> None:
    write_video(folder / "sea.mkv", np.zeros((2, 8, 8, 3), np.uint8), fps=8)
    kite, sea = folder / "kite.png", folder / "sea.mkv"
    entries = [
        {"prompt": "a"},
        {"prompt": "b", "reference_images": "kite.png", "image": "nowhere.png"},
        {"prompt": "c", "reference_images": ["kite.png", "kite.png"], "video": "sea.mkv", "mask": "kite.png"},
        {"prompt": "d", "video": "sea.mkv", "mask": "sea.mkv"},
    ]
    assert read_samples(write(folder, entries), VACE) == [
        Sample("a"),
        Sample("b", reference_images=(kite,)),
        Sample("c", reference_images=(kite, kite), video=sea, mask=kite),
        Sample("d", video=sea, mask=sea),
    ]


@pytest.mark.parametrize(
    ("inputs", "entry", "sentence"),
    [
        (FIRST_FRAME, {}, r"Entry 1 of .* has no `image`, and the model starts from an image: add"),
        (FIRST_FRAME, {"image": "dune.png"}, r"The image .*dune\.png is missing"),
        (
            FIRST_FRAME,
            {"image": "samples.json"},
            r"samples\.json is not an image that can be decoded \(unknown format\)",
        ),
        (
            FIRST_AND_LAST,
            {"image": "kite.png"},
            r"Entry 1 of .* has no `last_image`, and the model ends at a second one",
        ),
        (VACE, {"mask": "kite.png"}, r"Entry 1 of .* has a `mask`, which requires a `video`: add one"),
        (VACE, {"video": "samples.json"}, r"samples\.json is not a video that can be decoded"),
        (VACE, {"video": "nowhere.mp4"}, r"The video .*nowhere\.mp4 is missing"),
        (VACE, {"reference_images": ["kite.png", 3]}, r"Entry 1 of .* has a `reference_images` that is int, not text"),
        (VACE, {"reference_images": ["nowhere.png"]}, r"The image .*nowhere\.png is missing"),
    ],
)
def test_refuses_files_that_do_not_serve(
    folder: Path, inputs: ModelInputs, entry: dict[str, Any], sentence: str
) -> None:
    whole = {"prompt": "a", "image": "kite.png", "last_image": "kite.png"}
    with pytest.raises(VqError, match=sentence):
        read_samples(write(folder, [whole, {"prompt": "b"} | entry]), inputs)


def test_files_and_their_digests_come_in_order(folder: Path) -> None:
    kite = folder / "kite.png"
    sample = Sample("a", "", kite, reference_images=(kite, kite))
    assert list(sample.files()) == [("image", kite), ("reference_images", kite), ("reference_images", kite)]
    digest = hashlib.sha256(kite.read_bytes()).hexdigest()
    assert sample.digests() == {"image": [digest], "reference_images": [digest, digest]}


@pytest.mark.parametrize("name", ["../kite.png", "sub/../../kite.png"])
def test_a_relative_path_stays_in_the_folder_and_an_absolute_one_leads_anywhere(folder: Path, name: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    write(inner, [{"prompt": "a", "image": name}])
    with pytest.raises(VqError, match="Entry 0 of .* as `image`, which leads out of the folder: give an absolute path"):
        read_samples(inner, FIRST_FRAME)
    write(inner, [{"prompt": "a", "image": str(folder / "kite.png")}])
    assert read_samples(inner, FIRST_FRAME)[0].image == folder / "kite.png"
