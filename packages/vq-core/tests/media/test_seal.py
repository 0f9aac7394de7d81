from pathlib import Path

import pytest

from vq_core.media.seal import ANNOUNCED, SEAL_BYTES, is_broken, seal

CONTENT = bytes(range(200))


@pytest.fixture(params=[".mp4", ".mkv"])
def sealed(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"any{request.param}"
    path.write_bytes(CONTENT)
    seal(path)
    return path


def test_an_element_that_holds_the_seal_comes_after_the_content(sealed: Path) -> None:
    written, announced = sealed.read_bytes(), ANNOUNCED[sealed.suffix]
    assert written.startswith(CONTENT + announced)
    assert len(written) == len(CONTENT) + len(announced) + SEAL_BYTES
    assert not is_broken(sealed)


def test_every_byte_before_the_seal_and_of_its_digest_counts(sealed: Path) -> None:
    written = sealed.read_bytes()
    mark = range(len(written) - SEAL_BYTES, len(written) - 64)
    for position in set(range(len(written))) - set(mark):
        sealed.write_bytes(written[:position] + bytes([written[position] ^ 4]) + written[position + 1 :])
        assert is_broken(sealed), position


@pytest.mark.parametrize("content", [b"", CONTENT])
def test_what_has_no_seal_is_not_broken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "any.mp4").write_bytes(content)
    assert not is_broken(tmp_path / "any.mp4")
