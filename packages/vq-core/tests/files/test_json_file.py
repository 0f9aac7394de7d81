"""A JSON object, or one sentence."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.files.json_file import read_json


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": "ä"}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": "ä"}


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"{", "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[]", "is not a JSON object")]
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(VqError, match=rf"x\.json {sentence}.*: get it again\.$"):
        read_json(tmp_path / "x.json")
    with pytest.raises(VqError, match=rf"x\.json {sentence}.*: mend it\.$"):
        read_json(tmp_path / "x.json", damaged="mend it")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"x\.json is missing: give a whole model folder\.$"):
        read_json(tmp_path / "x.json")
    (tmp_path / "file").write_text("{}")
    with pytest.raises(VqError, match=r"file/x\.json is missing: give a pipeline\.$"):
        read_json(tmp_path / "file" / "x.json", missing="give a pipeline")
