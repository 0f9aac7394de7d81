"""JSON is read, or refused in one sentence."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.files.json_file import MAX_DEPTH, read_json, read_json_value


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_an_object_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    numbers = "18446744073709551615, -9223372036854775808, -0, 1.5, 1e-999, 1.5e+100"
    content = f'{{"a": "ä", "n": [{numbers}], "😀": "\\ud83d\\ude00 \\\\ud83d"}}'
    (tmp_path / "x.json").write_bytes(mark + content.encode())
    read = read_json(tmp_path / "x.json")
    assert read == {"a": "ä", "n": [2**64 - 1, -(2**63), 0, 1.5, 0.0, 1.5e100], "😀": "😀 \\ud83d"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", r"is not JSON \(Expecting property name.*\)"),
        (b"\xff\xfe", r"is not JSON \('utf-8' codec can't decode .*\)"),
        (b"[]", "is not a JSON object"),
        (b'{"a": {"b": 1, "b": 1}}', r"is not JSON \(`b` is there twice\)"),
        (b'{"a": "\\ud800"}', r"is not JSON \(a string holds half of a surrogate pair\)"),
        (b'{"\\udc00\\ud800": 1}', r"is not JSON \(a string holds half of a surrogate pair\)"),
        (b'{"a": 1e999}', r"is not JSON \(the number 1e999 is too large\)"),
        (b'{"a": -' + b"9" * 400 + b".5}", r"is not JSON \(the number -9{19}… is too large\)"),
        (b'{"a": -Infinity}', r"is not JSON \(-Infinity is no number of JSON\)"),
        (b'{"a": 18446744073709551616}', r"is not JSON \(the integer 18446744073709551616 does not fit 64 bits\)"),
        (b'{"a": -9223372036854775809}', r"is not JSON \(the integer -9223372036854775809 does not fit 64 bits\)"),
        (b'{"a": ' + b"9" * 10_000 + b"}", r"is not JSON \(the integer 9{20}… does not fit 64 bits\)"),
        (
            b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
            r"is not JSON \(it is nested deeper than 100 levels\)",
        ),
        (b'{"a": ' + b'[{"a":' * 100_000, r"is not JSON \(it is nested deeper than 100 levels\)"),
    ],
)
def test_what_is_no_clear_object_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(VqError, match=rf"x\.json {sentence}: get it again\.$"):
        read_json(tmp_path / "x.json")
    with pytest.raises(VqError, match=rf"x\.json {sentence}: mend it\.$"):
        read_json(tmp_path / "x.json", damaged="mend it")


def test_a_value_that_is_no_object_is_read_on_request(tmp_path: Path) -> None:
    nested = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    (tmp_path / "x.json").write_bytes(nested)
    assert str(read_json_value(tmp_path / "x.json", missing="", damaged="")).encode() == nested


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"x\.json is missing: give a whole model folder\.$"):
        read_json(tmp_path / "x.json")
    (tmp_path / "file").write_text("{}")
    with pytest.raises(VqError, match=r"file/x\.json is missing: give a pipeline\.$"):
        read_json(tmp_path / "file" / "x.json", missing="give a pipeline")
