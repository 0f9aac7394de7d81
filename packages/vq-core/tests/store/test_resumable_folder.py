"""What is left by a run that was stopped."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.store.resumable_folder import RESUME_FILE, check_resumable, files_in, partial_folder, remove_working_files


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    folder = partial_folder(tmp_path / "stats")
    (folder / "transformer").mkdir(parents=True)
    (folder / RESUME_FILE).write_text('{"model": "wan", "settings": {"steps": 40}}')
    for name in ("transformer/block_0.safetensors", "transformer/.block_1.safetensors.tmp", "manifest.json"):
        (folder / name).write_text("x")
    return folder


def test_only_the_run_that_began_it_goes_on(partial: Path, tmp_path: Path) -> None:
    began = {"model": "wan", "settings": {"steps": 40}}
    check_resumable(partial, began, True, tmp_path / "stats")
    with pytest.raises(VqError, match=r"stats\.partial is left from an interrupted run: continue it with --resume"):
        check_resumable(partial, began, False, tmp_path / "stats")
    with pytest.raises(VqError, match=r"stats\.partial was begun with other settings: run the same command again"):
        check_resumable(partial, began | {"settings": {"steps": 50}}, True, tmp_path / "stats")


def test_unfinished_files_are_removed_and_finished_ones_kept(partial: Path) -> None:
    remove_working_files(partial)
    left = sorted(path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file())
    assert left == [RESUME_FILE, "manifest.json", "transformer/block_0.safetensors"]
    assert files_in(partial) == ["transformer/block_0.safetensors"]
