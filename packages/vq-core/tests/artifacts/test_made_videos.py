import json
from pathlib import Path

import pytest

from vq_core.artifacts.made_videos import made_videos, require_unaltered
from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.errors import VqError
from vq_core.store.writer import Header, create_artifact


def make(folder: Path, kind: str = KIND) -> Path:
    header = Header(kind, FORMAT, "vq test", "wan", "model", {}, {"num_frames": 5}, {})
    with create_artifact(folder, header) as writer:
        writer.draft("full/000.mkv").write_bytes(b"frames")
        writer.adopt("full/000.mkv")
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make(tmp_path / "made")


def test_the_manifest_around_a_folder_knows_its_videos(artifact: Path) -> None:
    made = made_videos(artifact / "full")
    assert made is not None
    assert (made.artifact, made.variant, made.num_frames) == (artifact, "full", 5)
    assert not made.is_altered(artifact / "full" / "000.mkv")
    require_unaltered(made, artifact / "full" / "000.mkv")


def test_a_video_that_was_written_and_is_gone_is_named(artifact: Path) -> None:
    made = made_videos(artifact / "full")
    assert made is not None
    made.require_all([artifact / "full" / "000.mkv"])
    for others in ([], [artifact / "full" / "001.mkv"], [artifact / "full" / "000.mp4"]):  # a lossy version will not do
        with pytest.raises(VqError, match=r"made holds no full/000\.mkv any more, .*: make or copy the videos again"):
            made.require_all(others)


def test_the_folder_may_be_the_current_one(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(artifact / "full")
    made = made_videos(Path())
    assert made is not None
    assert made.variant == "full"


@pytest.mark.parametrize("name", ["000.mkv", "001.mkv"])
def test_another_file_than_was_written_is_altered(artifact: Path, name: str) -> None:
    video = artifact / "full" / name
    video.write_bytes(b"others")
    made = made_videos(artifact / "full")
    assert made is not None
    assert made.is_altered(video)
    with pytest.raises(VqError, match=rf"{name} is not the file that was written .*: make or copy the videos again"):
        require_unaltered(made, video)


def test_without_a_manifest_nothing_is_known(tmp_path: Path) -> None:
    assert made_videos(tmp_path) is None
    require_unaltered(None, tmp_path / "000.mkv")


def test_records_without_a_manifest_are_refused(artifact: Path) -> None:
    (artifact / "full" / "000.json").write_text("{}")
    (artifact / "manifest.json").rename(artifact / "MANIFEST.JSON")
    with pytest.raises(VqError, match=r"but without the manifest\.json of the folder around them: copy that one whole"):
        made_videos(artifact / "full")
    (artifact / "full" / "000.json").unlink()
    assert made_videos(artifact / "full") is None


def test_a_manifest_of_another_kind_is_not_theirs(tmp_path: Path) -> None:
    assert made_videos(make(tmp_path / "stats", "activation-stats") / "full") is None


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("{", "[", "is not JSON"),
        ('"kind": "videos"', '"kind": "vide\x00s"', "is not JSON"),
        ('"kind": "videos"', '"kind": "videps"', "does not match its own digest"),
        ('"kind"', '"kine"', "does not match its own digest"),
        ('"digest"', '"digert"', "does not match its own digest"),
        ('"num_frames": 5', '"num_frames": 4', "does not match its own digest"),
    ],
)
def test_a_damaged_manifest_is_an_error(artifact: Path, before: str, after: str, sentence: str) -> None:
    path = artifact / "manifest.json"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(VqError, match=sentence):
        made_videos(artifact / "full")


def test_a_manifest_of_somebody_else_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "a web page"}))
    assert made_videos(tmp_path / "videos") is None


def test_something_else_in_the_place_of_the_manifest_is_refused_where_one_must_be(artifact: Path) -> None:
    (artifact / "manifest.json").write_text('{"prompt": "kite"}')
    assert made_videos(artifact / "full") is None  # videos of anybody
    (artifact / "full" / "000.json").write_text("{}")
    with pytest.raises(VqError, match=r"made/manifest\.json is not the manifest of the videos in \S+/full: "):
        made_videos(artifact / "full")
