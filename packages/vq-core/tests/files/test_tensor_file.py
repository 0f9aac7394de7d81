import copy
import errno
import hashlib
import json
import math
import os
import random
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import load_file, save, save_file

from vq_core.errors import VqError
from vq_core.files import tensor_file
from vq_core.files.tensor_file import (
    BITS,
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
from vq_core.files.weights_file import SafetensorsFile

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
    header.clear()
    assert read_header(file)  # what was parsed once is not the caller's


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


def test_metadata_are_written_in_one_order_and_change_no_tensor(tmp_path: Path) -> None:
    noted = {f"key{number}": f'"quoted" 名 \\ \n {number}' for number in range(8)} | {"alpha": ""}
    for name, metadata in (("a", noted), ("b", dict(reversed(noted.items())))):
        write_tensors(tmp_path / name, TENSORS, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_metadata(tmp_path / "a") == noted | {"format": "pt"}
    assert read_header(tmp_path / "a").keys() == TENSORS.keys()
    assert torch.equal(load_file(tmp_path / "a")["half"], TENSORS["half"])
    save_file({"x": torch.ones(1)}, tmp_path / "bare")
    assert read_metadata(tmp_path / "bare") == {}


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

DAMAGED = r"x\.safetensors is not a safetensors file, or its header is damaged \(.*\): get it again\.$"
SPAN = r"cannot be bytes \d+ to \d+: what is before it ends at"
INVALID = "`x` does not consist of a valid dtype, shape and data_offsets"
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def refusals(path: Path) -> list[str]:
    """What each way to read `path` says."""
    said = []
    for read in (read_header, read_metadata, lambda path: load_tensors(path, []), SafetensorsFile):
        with pytest.raises(VqError) as caught:
            read(path)
        said.append(str(caught.value))
    return said


def with_header(header: object, data: bytes = bytes(4)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert set(refusals(path)) == {f"{path} is missing: get it again or check the folder."}


@pytest.mark.parametrize("kept", [0, 5, 8, 50])
def test_refuses_a_truncated_header(file: Path, kept: int) -> None:
    os.truncate(file, kept)
    assert all(re.search(DAMAGED, said) for said in refusals(file))


@pytest.mark.parametrize("change", [-1, 1, -30])
def test_refuses_truncated_or_overlong_data(file: Path, change: int) -> None:
    os.truncate(file, file.stat().st_size + change)
    assert all("so it is truncated or damaged: get it again." in said for said in refusals(file))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "cut off"),
        (b"PK\x03\x04" + bytes(100), "cut off"),
        (sys.maxsize.to_bytes(8, "little") + b"{}", "cut off"),
        (with_header(b"[]"), "does not begin with `{`"),
        (with_header(b" " + json.dumps({"x": ENTRY}).encode()), "does not begin with `{`"),
        (with_header(b"\xef\xbb\xbf{}", b""), "does not begin with `{`"),
        (with_header(b"{" * 50_000), "Expecting property name|nested deeper"),
        (with_header(b'{"x":' + b"[" * 50_000), "nested deeper"),
        (with_header(b'{"\xff":1}'), "invalid start byte"),
        (with_header(b'{"\\ud800":1}'), "surrogate"),
        (with_header(b'{"x":1,"x":2}'), "`x` is there twice"),
        (with_header({"x": [1, 2, 3]}), INVALID),
        (with_header({"x": {"dtype": "F32", "shape": [1]}}), INVALID),
        (with_header({"x": ENTRY | {"data_offsets": []}}), INVALID),
        (with_header({"x": ENTRY | {"data_offsets": [0, 2, 4]}}), INVALID),
        (with_header({"x": ENTRY | {"shape": [True]}}), INVALID),
        (with_header({"x": ENTRY | {"shape": [1.0]}}), INVALID),
        (with_header({"x": ENTRY | {"shape": [-1]}}), INVALID),
        (with_header({"x": ENTRY | {"dtype": "F128"}}), INVALID),
        (with_header({"x": ENTRY | {"more": 1}}), INVALID),
        (with_header({"__metadata__": {"a": 1}}, b""), "`__metadata__` holds more than strings"),
        (with_header(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}'), INVALID),
        (with_header({"x": ENTRY | {"shape": [2]}}), SPAN),
        (with_header({"x": ENTRY | {"data_offsets": [4, 0]}}), SPAN),
        (with_header({"x": ENTRY | {"data_offsets": [1, 5]}}, bytes(5)), SPAN),
        (with_header({"x": ENTRY, "y": ENTRY}), rf"`y`, F32 \[1\], {SPAN}"),
        (with_header({"x": ENTRY, "y": ENTRY | {"data_offsets": [5, 9]}}, bytes(9)), rf"`y`, F32 \[1\], {SPAN}"),
        (with_header({"x": ENTRY | {"shape": [1 << 62, 4, 0], "data_offsets": [0, 0]}}, b""), SPAN),
        (with_header({"x": ENTRY | {"dtype": "F4", "data_offsets": [0, 1]}}, bytes(1)), SPAN),
    ],
)
def test_refuses_what_is_not_safetensors(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert all(re.search(DAMAGED, said) and re.search(reason, said) for said in refusals(path))


def accepts(read: Callable[[], object], error: type[Exception]) -> bool:
    try:
        read()
    except error:
        return False
    return True


def mutated(header: dict[str, Any], chance: random.Random) -> bytes:
    """`header` as JSON, one value of it exchanged, removed, doubled, or moved."""
    numbers = [0, 1, 2, 3, 4, 8, 12, -1, 1.0, True, None, "4", 1 << 62, 1 << 64, 1 << 80, -0.0, 1e400]
    values = [*numbers, *BITS, "", "F128", "\ud800", [], {}, [[4]], {"dtype": "F32"}, [0, 4]]
    raw = copy.deepcopy(header)
    where: Any = raw
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = chance.choice(keys) if keys else None
        if key is None or not isinstance(where[key], dict | list) or chance.random() < 0.2:
            break
        where = where[key]
    match chance.randrange(5):
        case _ if key is None:
            pass
        case 0:
            del where[key]
        case 1 if isinstance(where, dict):
            where[chance.choice(["", "new", "dtype", "\x00", "__metadata__"])] = copy.deepcopy(where[key])
        case 2:
            where[key] = [where[key]] * chance.randrange(4)
        case 3 if type(where[key]) is int:
            where[key] += chance.choice([-4, -1, 1, 4])
        case _:
            where[key] = chance.choice(values)
    return json.dumps(raw).encode()


def test_accepts_nothing_that_the_library_refuses(tmp_path: Path) -> None:
    """Valid headers changed at random, as JSON and as bytes, against the library's own verdict."""
    chance = random.Random(0)
    path = tmp_path / "x.safetensors"
    ours = theirs = 0
    for _ in range(4000):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if chance.random() < 0.5 else {}
        end = 0
        for name in chance.sample("abcdef", chance.randrange(1, 4)):
            dtype, shape = chance.choice(list(BITS)), [chance.randrange(4) for _ in range(chance.randrange(3))] + [8]
            begin, end = end, end + math.prod(shape) * BITS[dtype] // 8
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        whole = json.dumps(header).encode()
        raw = mutated(header, chance) if chance.random() < 0.7 else whole
        content = bytearray(with_header(raw, bytes(end)))
        if raw is whole:
            for _ in range(chance.randrange(3)):
                place = chance.randrange(min(len(content), 8 + len(raw)))
                match chance.randrange(3):
                    case 0:
                        content[place] = chance.choice(b'0123456789-+.eE{}[]",:\\ntu \t\x00\x7f\xff')
                    case 1:
                        del content[place]
                    case _:
                        content.insert(place, chance.randrange(256))
        path.write_bytes(content)
        we = accepts(lambda: read_header(path), VqError)
        they = accepts(lambda data=bytes(content): deserialize(data), SafetensorError)  # type: ignore[misc]
        assert they or not we, bytes(content)
        if content == with_header(whole, bytes(end)):
            assert we, bytes(content)
        ours, theirs = ours + we, theirs + they
    assert 500 < ours > 0.8 * theirs  # it reads nearly all that the library reads


def test_refuses_a_tensor_that_is_not_there(file: Path) -> None:
    for read in (partial(load_tensors, file), SafetensorsFile(file).load):
        with pytest.raises(VqError, match=r"x\.safetensors has no tensor `nothing`: get it again"):
            read(["nothing"])


@pytest.mark.parametrize("dtype", sorted(set(BITS) - set(DTYPE_NAMES.values())))
def test_a_dtype_that_is_not_read_is_listed_and_refused_when_it_is_loaded(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        with_header({"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, BITS[dtype]]}}, bytes(64)[: BITS[dtype]])
    )
    assert read_header(path)["x"].dtype == dtype
    for read in (partial(load_tensors, path), SafetensorsFile(path).load):
        with pytest.raises(VqError, match=f"`x` in .* is {dtype}, which is not read here: get it in another format"):
            read(["x"])


def test_an_empty_file_of_tensors_is_valid(tmp_path: Path) -> None:
    save_file({}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors") == {}
    assert load_tensors(tmp_path / "x.safetensors", []) == {}


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert tensor_file.sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
