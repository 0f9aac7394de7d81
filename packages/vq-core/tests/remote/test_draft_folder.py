"""The folder beside an output: empty, whatever a killed run has left, and gone at the end."""

from pathlib import Path

import pytest

from vq_core.files.tensor_file import publish
from vq_core.remote.draft_folder import draft_folder


def test_what_was_published_stays(tmp_path: Path) -> None:
    with draft_folder(tmp_path / "new" / "out") as draft:
        (draft / "x").write_text("x")
        publish(draft, tmp_path / "new" / "out")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out" / "x").read_text() == "x"


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_a_killed_run_has_left_is_removed(tmp_path: Path, make: object) -> None:
    with draft_folder(tmp_path / "out") as draft:
        pass
    assert not draft.exists()
    make(draft)  # type: ignore[operator]
    with draft_folder(tmp_path / "out") as again:
        assert again == draft
        assert list(again.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), draft_folder(tmp_path / "out") as draft:
        (draft / "x").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
