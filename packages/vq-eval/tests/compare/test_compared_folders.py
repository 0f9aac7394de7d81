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


@pytest.mark.parametrize(
    ("candidates", "sentence"),
    [
        (
            ["a/fake-quant", "b/fake-quant"],
            "Two rows are called `fake-quant`: give them names, --candidate NAME=FOLDER",
        ),
        ([], "`--candidate` is missing"),
    ],
)
def test_rows_without_a_name_of_their_own_are_refused(candidates: list[str], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        entries_of(Path("full"), candidates, None)


def test_videos_are_matched_by_stem_in_order(make_folder: MakeFolder, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"cat.mp4": clip, "sea.mp4": clip})
    (candidate / ".sea.mkv").write_bytes(b"left by another program")
    (candidate / "samples.json").write_text("[]")
    folders = open_folders(entries_of(reference, [str(candidate)], None))
    assert [list(folder.videos) for folder in folders] == [["cat", "sea"]] * 2


def test_the_lossless_one_of_two_kinds_is_taken(make_folder: MakeFolder, clip: np.ndarray) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "sea.mp4": clip})
    assert [it.videos["sea"].name for it in open_folders(entries_of(folder, ["again=" + str(folder)], None))] == [
        "sea.mkv"
    ] * 2


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        (None, "b is not a folder: give one with .mkv or .mp4 videos"),
        ([], "b holds no .mkv or .mp4 video"),
        (["sea", "dog"], r"different videos, cat, fog only in \S*a and dog only in \S*b: give"),
    ],
)
def test_folders_that_do_not_match_are_refused(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, candidate: list[str] | None, sentence: str
) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip, "fog.mkv": clip})
    if candidate is not None:
        make_folder("b", {f"{stem}.mkv": clip for stem in candidate})
    with pytest.raises(VqError, match=sentence):
        open_folders(entries_of(reference, [str(tmp_path / "b")], None))
