import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vq_core.artifacts.videos import settings_of
from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.sampling import prompts as prompts_module
from vq_core.sampling.opened_files import open_picture, open_video
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FIRST_FRAME, SAMPLES_FILE, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant, write_samples

SAMPLING = Sampling(steps=1, height=64, width=64, num_frames=5)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three prompts with every file."""
    return write_samples(tmp_path / "prompts", 3, with_images=True)


@pytest.fixture
def decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file, by its digest, is given to Pillow or ffmpeg to be decoded."""
    counts: Counter[str] = Counter()
    open_image, run = Image.open, subprocess.run

    def counted_open(file: Any, *arguments: Any) -> Any:
        image = open_image(file, *arguments)
        load = image.load
        digest = hashlib.sha256(file.getvalue()).hexdigest() if isinstance(file, BytesIO) else sha256(file)

        def counted_load() -> Any:
            counts[digest] += bool(image.tile)  # of which nothing is left once it is decoded
            return load()

        image.load = counted_load
        return image

    def counted_run(command: list[str], **options: Any) -> Any:
        counts.update(sha256(Path(word)) for option, word in pairwise(command) if option == "-i")
        return run(command, **options)

    monkeypatch.setattr(Image, "open", counted_open)
    monkeypatch.setattr(subprocess, "run", counted_run)
    return counts


@pytest.mark.parametrize("variant", ["flf2v", "vace"])
def test_a_run_decodes_each_picture_once_and_each_video_once_more_to_make_its_video(
    variant: Variant, tiny_model: Callable[[Variant], Path], folder: Path, decoded: Counter[str]
) -> None:
    entries = json.loads((folder / SAMPLES_FILE).read_text())
    (folder / SAMPLES_FILE).write_text(json.dumps(entries[:1]))
    pipeline = VideoPipeline(str(tiny_model(variant)), "cpu")
    samples = read_samples(folder, pipeline.inputs)
    settings = settings_of(samples, SAMPLING, pipeline)
    pipeline.video_tokens(samples[0], SAMPLING)
    (conditions,) = pipeline.encode(samples, SAMPLING)
    pipeline.sample(conditions, SAMPLING, seed=0)
    expected = {
        "flf2v": {"image_0.png": 1, "last_0.png": 1},
        "vace": {"last_0.png": 1, "mask.png": 1, "video_0.mkv": 2},
    }
    assert decoded == {sha256(folder / name): count for name, count in expected[variant].items()}
    said = str(settings["prompts"])
    assert all(digest in said for digest in decoded)


def test_pictures_beyond_the_budget_are_decoded_again(
    folder: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [np.asarray(Image.open(folder / f"image_{index}.png")) for index in range(3)]
    monkeypatch.setattr(prompts_module, "KEPT_BYTES", sum(picture.size for picture in expected[:2]))
    decoded.clear()
    pictures = [sample.opened()["image"][0] for sample in read_samples(folder, FIRST_FRAME)]
    assert [picture.kept is not None for picture in pictures] == [True, True, False]
    for picture, pixels in zip(pictures, expected, strict=True):
        assert np.array_equal(np.asarray(picture.image()), pixels)
    assert [decoded[sha256(folder / f"image_{index}.png")] for index in range(3)] == [1, 1, 2]


def test_a_picture_that_was_kept_may_change(tmp_path: Path) -> None:
    path = tmp_path / "kite.png"
    Image.new("RGB", (8, 8), "red").save(path)
    picture = open_picture(path, budget=8 * 8 * 3)
    Image.new("RGB", (8, 8), "blue").save(path)
    assert picture.image().getpixel((0, 0)) == (255, 0, 0)


def test_refuses_a_file_that_changed_before_it_is_decoded_again(tmp_path: Path) -> None:
    kite, sea = tmp_path / "kite.png", tmp_path / "sea.mkv"
    Image.new("RGB", (8, 8), "red").save(kite)
    write_video(sea, np.zeros((2, 8, 8, 3), np.uint8), fps=8)
    picture, video = open_picture(kite, budget=8 * 8 * 3 - 1), open_video(sea)
    assert picture.image().getpixel((0, 0)) == (255, 0, 0)
    assert np.array_equal(video.video(), np.zeros((2, 8, 8, 3), np.uint8))
    Image.new("RGB", (8, 8), "blue").save(kite)
    write_video(sea, np.ones((2, 8, 8, 3), np.uint8), fps=8)
    with pytest.raises(VqError, match=r"kite\.png was changed after the prompts were read: run the command again"):
        picture.image()
    with pytest.raises(VqError, match=r"sea\.mkv was changed after"):
        video.video()
