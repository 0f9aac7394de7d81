import errno
import hashlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from vq_core.errors import VqError
from vq_core.files import tensor_file
from vq_core.files.tensor_file import (
    DTYPE_NAMES,
    draft_tensors,
    load_tensors,
    publish_draft,
    read_header,
    read_metadata,
    sha256_of,
    write_bytes,
    write_tensors,
)

TENSORS = {
    "codes": torch.tensor([[1, -2], [3, 4]], dtype=torch.int8),
    "fp8": torch.tensor([1.0, 448.0]).to(torch.float8_e4m3fn),
    "scale": torch.tensor([[0.5], [2.0]]),
    "half": torch.ones(2, 3, 4).bfloat16(),
    "scalar": torch.tensor(3, dtype=torch.int64),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "x.safetensors"
    write_tensors(path, TENSORS)
    return path


@pytest.fixture
def small_files() -> Iterator[None]:
    """Fail every write beyond 64 KiB of a file, as a full disk does."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_round_trip_through_another_reader(file: Path) -> None:
    loaded = load_file(file)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].float(), tensor.float())


def test_header_without_data(file: Path) -> None:
    header = read_header(file)
    assert {name: (info.dtype, info.shape) for name, info in header.items()} == {
        "codes": ("I8", (2, 2)),
        "fp8": ("F8_E4M3", (2,)),
        "scale": ("F32", (2, 1)),
        "half": ("BF16", (2, 3, 4)),
        "scalar": ("I64", ()),
    }
    content = file.read_bytes()
    assert content[header["codes"].begin : header["codes"].end] == bytes([1, 254, 3, 4])
    assert content[header["half"].begin : header["half"].end] == b"\x80\x3f" * 24


def test_loads_only_what_is_asked_for(file: Path) -> None:
    assert load_tensors(file, ["scale"]).keys() == {"scale"}


def test_views_and_transposes_are_written_as_they_look(tmp_path: Path) -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "x.safetensors", {"t": matrix.T, "row": torch.ones(4, 4)[1]})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["t"], matrix.T)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, file: Path) -> None:
    again = tmp_path / "again.safetensors"
    write_tensors(again, dict(reversed(TENSORS.items())))
    assert again.read_bytes() == file.read_bytes()


def test_the_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = {f'{i}.é "{dtype}"': torch.ones(3, 5).to(dtype) for i, dtype in enumerate(DTYPE_NAMES)}
    tensors |= TENSORS | {"b": torch.zeros(2).bfloat16(), "a": torch.zeros(3).bfloat16(), "empty": torch.zeros(0, 4)}
    write_tensors(tmp_path / "x.safetensors", tensors)
    assert (tmp_path / "x.safetensors").read_bytes() == save(tensors, metadata={"format": "pt"})
    assert {name: info.dtype for name, info in read_header(tmp_path / "x.safetensors").items()} == {
        name: DTYPE_NAMES[tensor.dtype] for name, tensor in tensors.items()
    }


def test_metadata_are_written_in_one_order(tmp_path: Path) -> None:
    noted = {"model": "Wan", "zeta": "é\n", "recipe": '{"a": 1}', "alpha": "", "digest": "0"}
    for name, metadata in (("a", noted), ("b", dict(reversed(noted.items())))):
        write_tensors(tmp_path / name, TENSORS, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_metadata(tmp_path / "a") == noted | {"format": "pt"}
    assert load_file(tmp_path / "a").keys() == TENSORS.keys()


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    digest = write_tensors(tmp_path / "x.safetensors", TENSORS)
    assert digest == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()


def test_nothing_but_the_file_is_left(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_an_os_error_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(OSError, match=r"x\.safetensors") as caught:
        write_tensors(path, {"x": torch.zeros(1 << 20)})
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(OSError, match=r"File too large: .*text"):
        write_bytes(tmp_path / "text", bytes(1 << 20))
    assert not path.exists()
    assert not (tmp_path / "text").exists()


def test_a_write_that_fails_keeps_the_file_that_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "full", str(path))

    monkeypatch.setattr(tensor_file, "sync", fail)
    with pytest.raises(OSError, match="full"):
        write_tensors(file, {"x": torch.zeros(4)})
    assert file.read_bytes() == before


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    path = tmp_path / "x"
    monkeypatch.setattr(tensor_file, "sync", lambda target: synced.append((target.name, path.exists())))
    write_bytes(path, b"content")
    assert synced == [(".x.tmp", False), (tmp_path.name, True)]


def test_a_draft_has_its_name_only_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    digest = draft_tensors(path, {"x": torch.ones(3)}, {"said": "so"})
    assert not path.exists()
    publish_draft(path)
    assert list(tmp_path.iterdir()) == [path]
    assert digest == sha256_of(path) == write_tensors(tmp_path / "y", {"x": torch.ones(3)}, {"said": "so"})


# --- What a reader refuses ----------------------------------------------------------------------


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="is missing: get it again"):
        read_header(tmp_path / "x.safetensors")
    with pytest.raises(VqError, match="cannot be read"):
        load_tensors(tmp_path / "x.safetensors", ["x"])


@pytest.mark.parametrize("kept", [0, 5, 8, 50])
def test_refuses_a_truncated_header(file: Path, kept: int) -> None:
    os.truncate(file, kept)
    with pytest.raises(VqError, match="is not a safetensors file, or its header is damaged"):
        read_header(file)


@pytest.mark.parametrize("change", [-1, 1, -30])
def test_refuses_truncated_or_overlong_data(file: Path, change: int) -> None:
    os.truncate(file, file.stat().st_size + change)
    with pytest.raises(VqError, match="so it is truncated or damaged"):
        read_header(file)


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        b"PK\x03\x04" + bytes(100),
        (2).to_bytes(8, "little") + b"[]",
        (14).to_bytes(8, "little") + b'{"x": [1,2,3]}',
        (51).to_bytes(8, "little") + b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[]}}',
        sys.maxsize.to_bytes(8, "little") + b"{}",
    ],
)
def test_refuses_what_is_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(VqError, match=r"x\.safetensors is not a safetensors file"):
        read_header(path)
    with pytest.raises(VqError, match="cannot be read"):
        load_tensors(path, ["x"])


def test_refuses_a_tensor_that_is_not_there(file: Path) -> None:
    with pytest.raises(VqError, match=r"x\.safetensors cannot be read .*nothing"):
        load_tensors(file, ["nothing"])


def test_an_empty_file_of_tensors_is_valid(tmp_path: Path) -> None:
    save_file({}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors") == {}


def test_metadata(tmp_path: Path, file: Path) -> None:
    assert read_metadata(file) == {"format": "pt"}
    save_file({"x": torch.ones(1)}, tmp_path / "bare.safetensors")
    assert read_metadata(tmp_path / "bare.safetensors") == {}
    with pytest.raises(VqError, match="nothing.safetensors cannot be read"):
        read_metadata(tmp_path / "nothing.safetensors")


def test_metadata_are_written_in_one_order_and_change_no_tensor(tmp_path: Path) -> None:
    tensors = {"x": torch.arange(6.0).reshape(2, 3), "é": torch.ones(1, dtype=torch.int8)}
    said = {f"key{number}": f'"quoted" 名 \\ \n {number}' for number in range(8)}
    files = [tmp_path / f"{number}.safetensors" for number in range(4)]
    for file in files:  # the library orders metadata at random, by file
        write_tensors(file, tensors, said)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_metadata(files[0]) == {"format": "pt", **said}
    assert load_file(files[0])["x"].tolist() == tensors["x"].tolist()
    assert read_header(files[0]).keys() == tensors.keys()


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert tensor_file.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
