import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vq_core.errors import VqError
from vq_core.store.manifest import FILE_NAME, ComponentEntry, FileEntry, LoraEntry, Manifest, TensorEntry, read_manifest


@pytest.fixture
def manifest() -> Manifest:
    tensor = TensorEntry(file="transformer/block_0.safetensors", dtype="BF16", shape=[2, 3])
    lora = LoraEntry(file="lora.safetensors", sha256="cd", strength=0.5)
    component = ComponentEntry(
        folder="transformer", fingerprint="f", config={"eps": 1e-6}, lora=[lora], tensors={"x": tensor}
    )
    return Manifest(
        kind="activation-stats",
        format=2,
        tool="vq-calib 1.0",
        family="wan",
        model="modèle/名",
        settings={"alpha": 0.75, "seed": 42, "shift": 3.0, "method": None, "groups": ["a"]},
        parents={"smoothed-weights": "d"},
        measured={"transformer": {"blocks.0.attn1.to_q": {"weight_snr_db": 40.1}}},
        components={"transformer": component},
        files={"transformer/block_0.safetensors": FileEntry(size=12, sha256="ab")},
    )


@pytest.fixture
def folder(tmp_path: Path, manifest: Manifest) -> Path:
    (tmp_path / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    (folder / FILE_NAME).write_text(json.dumps(content | changes), encoding="utf-8")


def write(folder: Path, content: dict[str, Any]) -> None:
    """Write `content` with the digest that belongs to it, so that only its meaning is wrong."""
    from vq_core.store.manifest import _digest

    (folder / FILE_NAME).write_text(json.dumps(content | {"digest": _digest(content)}), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(VqError) as caught:
        read_manifest(folder, "activation-stats", 2)
    return str(caught.value)


def test_round_trip(folder: Path, manifest: Manifest) -> None:
    read = read_manifest(folder, "activation-stats", 2)
    assert read == manifest
    assert read.digest() == manifest.digest()
    assert read.to_json() == manifest.to_json()


def test_layout_and_key_order_do_not_count(folder: Path, manifest: Manifest) -> None:
    content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    (folder / FILE_NAME).write_text(json.dumps(dict(reversed(content.items()))), encoding="utf-8")
    assert read_manifest(folder, "activation-stats", 2).digest() == manifest.digest()


def test_digest_covers_every_field(manifest: Manifest) -> None:
    changes: dict[str, Any] = {
        "kind": "other",
        "format": 3,
        "tool": "x",
        "family": "x",
        "model": "x",
        "settings": {},
        "parents": {},
        "measured": {},
        "components": {},
        "files": {},
    }
    assert changes.keys() == Manifest.model_fields.keys()
    digests = {manifest.model_copy(update={field: value}).digest() for field, value in changes.items()}
    assert len(digests | {manifest.digest()}) == len(changes) + 1


def test_is_frozen(manifest: Manifest) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest.model = "other"  # type: ignore[misc]


def test_refuses_a_folder_without_one(tmp_path: Path) -> None:
    assert f"{tmp_path} is not a activation-stats artifact (it has no manifest.json)" in refusal(tmp_path)


def test_refuses_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "is not a activation-stats artifact" in refusal(tmp_path / "nowhere")


def test_refuses_a_file_for_a_folder(folder: Path) -> None:
    assert "is not a activation-stats artifact" in refusal(folder / FILE_NAME)


def test_refuses_a_partial_folder(folder: Path) -> None:
    partial = folder.rename(folder.with_name("stats.partial"))
    assert "is unfinished: continue the run that wrote it with --resume" in refusal(partial)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[]"])
def test_refuses_what_is_not_a_json_object(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    assert re.search("is not (JSON|a JSON object).*: make the artifact again", refusal(folder))


@pytest.mark.parametrize("content", ["{}", '{"format": "2"}'])
def test_refuses_json_without_a_format(folder: Path, content: str) -> None:
    (folder / FILE_NAME).write_text(content)
    assert "has no format number" in refusal(folder)


def test_refuses_another_kind(folder: Path) -> None:
    edit(folder, kind="quant-params")
    assert "holds quant-params, and activation-stats is needed here" in refusal(folder)


def test_refuses_a_newer_format_whatever_else_it_holds(folder: Path) -> None:
    edit(folder, format=3, something_new=1)
    assert "has activation-stats format 3 and this version reads 2: upgrade vq-core" in refusal(folder)


def test_refuses_an_older_format(folder: Path) -> None:
    edit(folder, format=1)
    assert "make it again with this version" in refusal(folder)


@pytest.mark.parametrize(
    "changes", [{"settings": {"alpha": 0.5}}, {"digest": "0"}, {"digest": None}, {"model": "other"}, {"extra": 1}]
)
def test_refuses_what_was_edited_by_hand(folder: Path, changes: dict[str, Any]) -> None:
    edit(folder, **changes)
    assert "does not match its own digest, so it was edited or damaged" in refusal(folder)


def test_refuses_an_unknown_key(folder: Path, manifest: Manifest) -> None:
    write(folder, manifest.model_dump(mode="json") | {"surprise": 1})
    assert "is not a valid manifest (surprise: Extra inputs are not permitted)" in refusal(folder)


def test_refuses_a_missing_key(folder: Path, manifest: Manifest) -> None:
    content = manifest.model_dump(mode="json")
    del content["files"]
    write(folder, content)
    assert "is not a valid manifest (files: Field required)" in refusal(folder)


def test_refuses_a_wrong_type_by_its_place(folder: Path, manifest: Manifest) -> None:
    content = manifest.model_dump(mode="json")
    content["components"]["transformer"]["tensors"]["x"]["shape"] = ["2", 3]
    write(folder, content)
    assert "(components.transformer.tensors.x.shape.0: Input should be a valid integer)" in refusal(folder)
