from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_eval.compare.compared_folders import entries_of, open_folders

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]


def test_the_floor_stands_before_the_candidates() -> None:
    entries = entries_of(Path("a"), ["b", "second=c"], Path("f"))
    assert [(it.name, it.role) for it in entries] == [
        ("reference", "reference"),
        ("floor", "floor"),
        ("b", "candidate"),
        ("second", "candidate"),
    ]


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(VqError, match="Two rows are called `fake-quant`: give them names, --candidate NAME=FOLDER"):
        entries_of(Path("full"), ["a/fake-quant", "b/fake-quant"], None)


def test_no_candidate_is_refused() -> None:
    with pytest.raises(VqError, match="`--candidate` is missing"):
        entries_of(Path("full"), [], None)


def test_videos_are_matched_by_stem_in_order(make_folder: MakeFolder, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"cat.mp4": clip, "sea.mkv": clip})
    (candidate / ".sea.mp4").write_bytes(b"left by another program")
    (candidate / "samples.json").write_text("[]")
    folders = open_folders(entries_of(reference, [str(candidate)], None))
    assert [list(folder.videos) for folder in folders] == [["cat", "sea"]] * 2


def test_the_lossless_one_of_two_kinds_is_taken(make_folder: MakeFolder, clip: np.ndarray) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "sea.mp4": clip})
    assert [it.videos["sea"].name for it in open_folders(entries_of(folder, ["again=" + str(folder)], None))] == [
        "sea.mkv"
    ] * 2


def test_a_missing_folder_is_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    entries = entries_of(make_folder("a", {"sea.mkv": clip}), [str(tmp_path / "nowhere")], None)
    with pytest.raises(VqError, match="nowhere is not a folder: give one with .mp4 or .mkv videos"):
        open_folders(entries)


def test_a_folder_without_videos_is_refused(make_folder: MakeFolder, clip: np.ndarray) -> None:
    entries = entries_of(make_folder("a", {}), [str(make_folder("b", {"sea.mkv": clip}))], None)
    with pytest.raises(VqError, match="a holds no .mp4 or .mkv video"):
        open_folders(entries)


def test_names_of_one_side_only_are_refused(make_folder: MakeFolder, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip, "fog.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": clip, "dog.mkv": clip})
    with pytest.raises(VqError, match=r"different videos, cat, fog only in \S*a and dog only in \S*b: give"):
        open_folders(entries_of(reference, [str(candidate)], None))
