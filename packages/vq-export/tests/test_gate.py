"""A checkpoint has its name only when it was read back and found sound."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import GateFailed, VqError
from vq_export import gate
from vq_export.gate import export
from vq_export.model.quantized_model import QuantizedModel
from vq_export.targets import lightx2v
from vq_export.verify.verification import Verification


@pytest.fixture
def model(models: dict[str, Path], convert: Callable[..., QuantizedModel]) -> QuantizedModel:
    return convert(models["t2v"])


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sound_one_is_held_against_what_it_was_rounded_from(
    smoothed_i2v: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    found = export("lightx2v", smoothed_i2v["int8"].opened(), tmp_path / "ckpt")
    assert found is not None
    assert found.reference == str(models["i2v"])
    assert found.blocks["transformer"].wrong == []
    assert len(found.weight_snr_db["transformer"]) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt"]


def test_verified_or_not_the_bytes_are_the_target_s(model: QuantizedModel, tmp_path: Path) -> None:
    assert export("lightx2v", model, tmp_path / "verified") is not None
    assert export("lightx2v", model, tmp_path / "not", verify=False) is None
    lightx2v.export(model, tmp_path / "plain")
    assert bytes_of(tmp_path / "verified") == bytes_of(tmp_path / "not") == bytes_of(tmp_path / "plain")


def test_damage_by_the_disk_fails_the_gate(
    model: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(folder: Path) -> None:
        path = folder / "block_0.safetensors"
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)

    monkeypatch.setattr(gate, "_forget", damage)
    with pytest.raises(GateFailed, match="ckpt.unverified was written and cannot be read back: .*SHA-256 differs"):
        export("lightx2v", model, tmp_path / "ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.unverified"]


def test_warnings_fail_it_where_that_is_asked_for(
    model: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightx2v, "VERIFIER", lambda *arguments: Verification([], ["It is odd."]))
    with pytest.raises(GateFailed, match="ckpt.unverified has a warning: It is odd"):
        export("lightx2v", model, tmp_path / "ckpt", strict=True)
    assert export("lightx2v", model, tmp_path / "other") is not None


def test_an_export_that_was_stopped_while_it_was_verified_is_verified_again(
    model: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lightx2v, "VERIFIER", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export("lightx2v", model, tmp_path / "ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.unverified"]
    with pytest.raises(VqError, match="continue it with --resume"):
        export("lightx2v", model, tmp_path / "ckpt")
    assert export("lightx2v", model, tmp_path / "ckpt", resume=True) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt"]
    export("lightx2v", model, tmp_path / "undisturbed")
    assert bytes_of(tmp_path / "ckpt") == bytes_of(tmp_path / "undisturbed")


def test_one_that_failed_is_in_the_way(model: QuantizedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(lightx2v, "VERIFIER", lambda *arguments: Verification(["It is wrong."]))
        with pytest.raises(GateFailed, match="ckpt.unverified has a problem: It is wrong"):
            export("lightx2v", model, tmp_path / "ckpt")
    for resume in (False, True):
        with pytest.raises(VqError, match="ckpt.unverified is in the way, which failed its check"):
            export("lightx2v", model, tmp_path / "ckpt", resume=resume)
