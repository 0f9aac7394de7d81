"""What opening would wait for, and paths that leave their folder."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.files.given_file import MAX_BYTES, is_inside, is_there, read_given, require_file
from vq_core.files.json_file import read_json
from vq_core.files.pth_file import read_pth
from vq_core.files.tensor_file import read_header, sha256_of
from vq_core.files.tensor_folder import indexed_files


def bind(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


NO_FILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "x is a folder, and a file is needed there: give one"),
    "pipe": (os.mkfifo, "x is a named pipe, and a file is needed there: give one"),
    "socket": (bind, "x is a socket, and a file is needed there: give one"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "x is a device, and a file is needed there: give one"),
    "dangling": (lambda path: path.symlink_to("away"), "x is a link to away, which is missing: get that again or mend"),
    "loop": (lambda path: path.symlink_to("x"), "x is a link that leads back to itself: put the file there"),
}


@pytest.mark.parametrize(("make", "sentence"), NO_FILE.values(), ids=NO_FILE)
@pytest.mark.parametrize("read", [require_file, read_json, read_header, read_pth, indexed_files, sha256_of])
def test_refuses_what_is_no_file_before_it_is_opened(
    tmp_path: Path, make: Callable[[Path], object], sentence: str, read: Callable[[Path], object]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(VqError, match=sentence):
        read(tmp_path / "x")


@pytest.mark.parametrize("make", [make for make, _ in NO_FILE.values()], ids=NO_FILE)
def test_whatever_has_the_name_is_there(tmp_path: Path, make: Callable[[Path], object]) -> None:
    assert not is_there(tmp_path / "x")
    make(tmp_path / "x")
    assert is_there(tmp_path / "x")
    (tmp_path / "file").touch()
    assert not is_there(tmp_path / "file" / "x")


def test_what_the_system_does_not_say_is_not_absent(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        is_there(tmp_path / ("x" * 300))


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert read_given(tmp_path / "x", 3) == b"abc"
    os.truncate(tmp_path / "x", 64 << 30)  # takes no room
    for read in (read_given, read_json):
        with pytest.raises(VqError, match=rf"x is larger than {MAX_BYTES >> 20} MiB: give the right file\."):
            read(tmp_path / "x")


def test_a_failed_read_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("/proc/self/mem")
    for read in (read_given, read_header):
        with pytest.raises(OSError, match="Input/output error") as caught:
            read(tmp_path / "x")
        assert caught.value.filename == str(tmp_path / "x")


def test_a_link_to_a_file_is_one_and_nothing_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    (tmp_path / "link").symlink_to("blob")
    require_file(tmp_path / "link")
    with pytest.raises(FileNotFoundError):
        require_file(tmp_path / "nothing")
    for read in (read_json, read_header, sha256_of):
        with pytest.raises(VqError, match="nothing is missing: "):
            read(tmp_path / "nothing")


@pytest.mark.parametrize("read", [require_file, read_json, read_header, read_pth, indexed_files, sha256_of])
def test_refuses_a_path_with_a_null_character(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(VqError, match=r"/a\\x00b' holds a null character, which no path can: correct it"):
        read(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.safetensors", True),
        ("sub/a", True),
        ("..a/b..", True),
        ("", False),
        (".", False),
        ("..", False),
        ("../a", False),
        ("sub/../../a", False),
        ("/a", False),
        ("a\0b", False),
    ],
)
def test_a_path_that_stays_in_its_folder(name: str, inside: bool) -> None:
    assert is_inside(name) is inside
