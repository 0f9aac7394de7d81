import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.store.manifest import read_manifest
from vq_core.store.writer import Header, create_artifact
from vq_eval.compare.compared_folders import ComparedFolder, entries_of, open_folders
from vq_eval.compare.provenance import AskedVideos, Origin, asked_videos, origin_of
from vq_eval.videos.fake_quant import FORMAT, KIND

PROMPTS = [
    {"prompt": "a boat", "negative_prompt": "blur", "image": None},
    {"prompt": "a kite", "negative_prompt": "", "image": None},
]


@pytest.fixture
def made(clip: np.ndarray, tmp_path: Path) -> Path:
    """An artifact of two videos in the folder `full`."""
    settings = {"seed": 7, "steps": 2, "num_frames": 4, "prompts": PROMPTS}
    header = Header(KIND, FORMAT, "vq-eval test", "wan", "model", {}, settings, {"quant": "d1"})
    with create_artifact(tmp_path / "made", header) as writer:
        for index in range(2):
            write_video(writer.draft(f"full/{index:03d}.mkv"), clip, 16)
            writer.adopt(f"full/{index:03d}.mkv")
        writer.note_measured({"seconds_per_video": {"full": 1.5}})
    return tmp_path / "made"


def _folder(path: Path) -> ComparedFolder:
    return open_folders(entries_of(path, [f"again={path}"], None))[0]


def _origin(path: Path) -> Origin:
    origin = origin_of(_folder(path))
    assert origin is not None
    return origin


def test_the_manifest_around_a_folder_is_its_provenance(made: Path) -> None:
    origin = _origin(made / "full")
    known = origin.provenance
    assert (known.path, known.variant, known.digest) == (str(made), "full", read_manifest(made, KIND, FORMAT).digest())
    assert (known.model, known.parents) == ("model", {"quant": "d1"})
    assert known.settings == {"seed": 7, "steps": 2, "num_frames": 4}
    assert [(it.prompt, it.negative_prompt, it.files) for it in known.prompts] == [
        ("a boat", "blur", {}),
        ("a kite", "", {}),
    ]
    assert known.altered == ()
    assert (origin.seconds_per_video, origin.num_frames) == (1.5, 4)


def test_videos_that_fake_quant_made_have_their_parents(whole: Path) -> None:
    origin = _origin(whole / "fake-quant")
    assert set(origin.provenance.parents) == {"smoothed-weights", "quant-params"}
    assert len(origin.provenance.prompts) == 2
    assert origin.provenance.fingerprints.keys() == {"transformer"}
    assert origin.provenance.altered == ()


def test_a_file_that_was_exchanged_is_named(made: Path, clip: np.ndarray) -> None:
    write_video(made / "full" / "001.mkv", clip[::-1], 16)
    assert _origin(made / "full").provenance.altered == ("001.mkv",)


def test_a_video_that_was_taken_away_is_missed(made: Path) -> None:
    (made / "full" / "001.mkv").unlink()
    with pytest.raises(VqError, match=r"holds no full/001\.m\w+ any more, .*: make or copy the videos"):
        origin_of(_folder(made / "full"))


def test_a_damaged_manifest_is_refused(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["settings"]["seed"] = 8
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VqError, match="does not match its own digest"):
        origin_of(_folder(made / "full"))


def test_a_folder_without_a_manifest_of_videos_has_none(
    make_folder: Callable[..., Path], clip: np.ndarray, tmp_path: Path
) -> None:
    folder = make_folder("plain", {"000.mkv": clip})
    assert origin_of(_folder(folder)) is None
    (tmp_path / "manifest.json").write_text('{"kind": "activation-stats", "format": 1}')
    assert origin_of(_folder(folder)) is None


def test_video_i_was_asked_for_by_prompt_i_with_its_seed(made: Path) -> None:
    asked = asked_videos(_origin(made / "full").provenance, None)
    second = asked.of("001")
    assert (second.prompt, second.negative_prompt, second.seed, second.image) == ("a kite", "", 8, None)
    assert asked.of("002").prompt is None
    assert asked.of("sea").prompt is asked.of("sea").seed is None
    assert AskedVideos(None).of("000").prompt is None


def _write_prompts(folder: Path, entries: list[dict[str, str]]) -> Path:
    folder.mkdir()
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(folder / "first.png")
    (folder / "samples.json").write_text(json.dumps(entries))
    return folder


def test_given_prompts_bring_their_images(made: Path, tmp_path: Path) -> None:
    entries = [{"prompt": "a boat", "negative_prompt": "blur", "image": "first.png"}, {"prompt": "a kite"}]
    prompts = _write_prompts(tmp_path / "prompts", entries)
    for provenance in (_origin(made / "full").provenance, None):
        first = asked_videos(provenance, prompts).of("000")
        assert first.prompt == "a boat"
        assert first.image is not None
        assert first.image.shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([{"prompt": "a boat", "negative_prompt": "blur"}], "it has 1 prompts and not 2"),
        ([{"prompt": "a boat", "negative_prompt": "blur"}, {"prompt": "a cat"}], "entry 1 has other texts"),
    ],
)
def test_other_prompts_than_the_reference_s_are_refused(
    made: Path, tmp_path: Path, entries: list[dict[str, str]], sentence: str
) -> None:
    prompts = _write_prompts(tmp_path / "prompts", entries)
    with pytest.raises(VqError, match=f"prompts is not what .*made was made from, {sentence}: give those prompts"):
        asked_videos(_origin(made / "full").provenance, prompts)


def test_other_images_than_the_reference_s_are_refused(made: Path, tmp_path: Path) -> None:
    prompts = _write_prompts(
        tmp_path / "prompts", [{"prompt": "a boat", "negative_prompt": "blur", "image": "first.png"}]
    )
    known = _origin(made / "full").provenance
    of_another = known.prompts[0].model_copy(update={"files": {"image": "0" * 64}})
    with pytest.raises(VqError, match="entry 0 has another image"):
        asked_videos(known.model_copy(update={"prompts": (of_another,)}), prompts)
