"""Prompts are those of the world, readable by every stage, and the same each time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vq_core.errors import VqError
from vq_core.media.images import open_image
from vq_core.sampling.prompts import FIRST_FRAME, read_samples
from vq_wan_tiny.captions import caption, claims_of
from vq_wan_tiny.prompts import draw_clips, write_prompts
from vq_wan_tiny.world import draw_scenes


def test_they_are_captions_and_first_frames_of_the_clips(tmp_path: Path) -> None:
    captions = write_prompts(tmp_path / "new" / "prompts", 9, seed=3, held_out=True)
    samples = read_samples(tmp_path / "new" / "prompts", FIRST_FRAME)
    clips = list(draw_clips(9, 3, held_out=True))
    assert [sample.prompt for sample in samples] == captions == [text for text, _ in clips]
    assert {sample.negative_prompt for sample in samples} == {""}
    for sample, (_, frames) in zip(samples, clips, strict=True):
        assert sample.image is not None
        assert (frames.dtype, frames.shape) == (np.uint8, (17, 96, 96, 3))
        assert np.array_equal(np.asarray(open_image(sample.image)), frames[0])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["prompts"]
    entries = json.loads((tmp_path / "new" / "prompts" / "samples.json").read_text())
    assert [entry["image"] for entry in entries] == [f"00{index}.png" for index in range(9)]


@pytest.mark.parametrize("held_out", [True, False])
def test_clips_are_those_of_the_scenes_whatever_the_batch(held_out: bool) -> None:
    scenes = draw_scenes(10, torch.Generator().manual_seed(5), held_out=held_out)
    expected = [caption(claims) for claims in claims_of(scenes)]
    assert [text for text, _ in draw_clips(10, 5, held_out=held_out)] == expected


@pytest.mark.parametrize("count", [0, -1])
def test_no_prompts_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(VqError, match=f"count {count} is less than 1"):
        write_prompts(tmp_path / "prompts", count, 0, held_out=True)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="exists already"):
        write_prompts(tmp_path, 1, 0, held_out=True)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr("vq_wan_tiny.prompts.write_bytes", fail)
    with pytest.raises(OSError, match="full"):
        write_prompts(tmp_path / "prompts", 1, 0, held_out=True)
    assert not list(tmp_path.iterdir())
