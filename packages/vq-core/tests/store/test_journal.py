"""Digests on the disk, whoever notes them and whenever they are killed."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.store.journal import Journal, begin_journal, read_journals


def test_what_is_noted_is_read_by_every_process(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path, rank=1)
    first.note({"a": "1", "名/b c": "2"})
    second.note({"d": "3"})
    first.note({"a": "4"})
    assert read_journals(tmp_path) == {"a": ["1", "4"], "名/b c": ["2"], "d": ["3"]}
    assert first.digests() == {"a": "4", "名/b c": "2", "d": "3"}
    assert "d" not in first
    assert "d" in Journal(tmp_path, rank=2)


def test_a_line_that_a_kill_has_cut_off_harms_no_other(tmp_path: Path) -> None:
    Journal(tmp_path).note({"a": "1"})
    whole = (tmp_path / ".journal-0.jsonl").read_bytes()
    Journal(tmp_path).note({"b": "2"})
    content = (tmp_path / ".journal-0.jsonl").read_bytes()
    for size in range(len(whole), len(content)):
        (tmp_path / ".journal-0.jsonl").write_bytes(content[:size])
        Journal(tmp_path).note({"c": "3"})
        assert read_journals(tmp_path) == {"a": ["1"], "c": ["3"]}


def test_threads_note_a_file_each(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: journal.note({f"block_{number}": str(number)}), range(20)))
    assert read_journals(tmp_path) == {f"block_{number}": [str(number)] for number in range(20)}


def test_a_journal_that_begins_takes_the_place_of_all(tmp_path: Path) -> None:
    Journal(tmp_path, rank=3).note({"a": "1"})
    begin_journal(tmp_path, {"b": "2"})
    assert read_journals(tmp_path) == {"b": ["2"]}
    assert [path.name for path in tmp_path.iterdir()] == [".journal-0.jsonl"]


def test_a_pipe_in_the_place_of_a_journal_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".journal-0.jsonl")
    with pytest.raises(VqError, match="is a named pipe"):
        read_journals(tmp_path)
