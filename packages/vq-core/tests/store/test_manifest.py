import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.store.manifest import (
    FILE_NAME,
    ComponentEntry,
    FileEntry,
    LoraEntry,
    Manifest,
    TensorEntry,
    kind_of,
    read_manifest,
)


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


def test_refuses_a_partial_folder(folder: Path) -> None:
    partial = folder.rename(folder.with_name("stats.partial"))
    assert "is unfinished: continue the run that wrote it with --resume" in refusal(partial)


def test_refuses_what_holds_no_manifest(folder: Path) -> None:
    for path in (folder / "nowhere", folder / FILE_NAME):
        assert f"{path} is not a activation-stats artifact (it has no manifest.json)" in refusal(path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[]", b'{"format": 2, "format": 2}'])
def test_refuses_what_is_not_a_json_object(folder: Path, content: bytes) -> None:
    (folder / FILE_NAME).write_bytes(content)
    assert re.search("is not (JSON|a JSON object).*: make the artifact again", refusal(folder))
    assert kind_of(folder) is None


EDITED = "does not match its own digest, so it was edited or damaged: make the artifact again"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "2"}, "has no format number"),
        ({"format": None}, "has no format number"),
        ({"kind": "quant-params"}, "holds quant-params, and activation-stats is needed here"),
        ({"format": 3, "new": 1}, "has activation-stats format 3 and this version reads 2: upgrade vq-core"),
        ({"format": 1}, "format 1 and this version reads 2: make it again with this version"),
        ({"settings": {"alpha": 0.5}}, EDITED),
        ({"digest": "0"}, EDITED),
        ({"digest": None}, EDITED),
        ({"model": "other"}, EDITED),
        ({"extra": 1}, EDITED),
    ],
)
def test_refuses_what_is_something_else_or_was_edited(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    (folder / FILE_NAME).write_text(json.dumps(content | changes), encoding="utf-8")
    assert sentence in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["files"].update({"../block_0.safetensors": {"size": 1, "sha256": ""}}),
        lambda content: content["files"].update({"/etc/passwd": {"size": 1, "sha256": ""}}),
        lambda content: content["components"]["transformer"].update(folder="../other"),
    ],
)
def test_refuses_paths_that_lead_out_of_the_folder(
    folder: Path, manifest: Manifest, change: Callable[[Any], object]
) -> None:
    content = manifest.model_dump(mode="json")
    change(content)
    (folder / FILE_NAME).write_text(Manifest.model_validate(content).to_json(), encoding="utf-8")
    assert re.search(r"manifest\.json names (\.\.|/)\S+, which is not inside the artifact: make it", refusal(folder))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"surprise": 1}, "(surprise: Extra inputs are not permitted)"),
        ({"files": {"a": {"size": 1}}}, "(files.a.sha256: Field required)"),
        ({"files": {"a": {"size": "1", "sha256": ""}}}, "(files.a.size: Input should be a valid integer)"),
    ],
)
def test_refuses_another_schema_by_its_place(
    folder: Path, manifest: Manifest, changes: dict[str, Any], sentence: str
) -> None:
    """Written with the digest that belongs to it, so that only its meaning is wrong."""
    content = manifest.model_dump(mode="json") | changes
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / FILE_NAME).write_text(json.dumps(content | {"digest": digest}), encoding="utf-8")
    assert f"is not a valid manifest {sentence}: make the artifact again" in refusal(folder)
