"""How a checkpoint was quantized, in lines for people and as JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_export.show import provenance_of, provenance_rows

Paths = dict[str, Path]


def test_a_folder_and_a_file_of_it_say_the_same(checkpoints: Paths) -> None:
    path = checkpoints["int8-smoothed"]
    whole, part = provenance_of(path), provenance_of(path / "block_0.safetensors")
    assert part["shard"] == "block_0"
    for key in ("artifact", "tool", "model", "family", "components", "settings", "parents"):
        assert whole[key] == part[key]
    own = {name: how for name, how in whole["linears"]["transformer"].items() if name.startswith("blocks.0.")}
    assert part["linears"] == {"transformer": own}
    json.dumps(whole, allow_nan=False)


def test_a_file_alone_is_enough(checkpoints: Paths, tmp_path: Path) -> None:
    shutil.copyfile(checkpoints["fp8-smoothed"] / "non_block.safetensors", tmp_path / "moved.safetensors")
    rows = provenance_rows(provenance_of(tmp_path / "moved.safetensors"))
    assert (rows["part"], rows["scheme"], rows["smoother"], rows["rounder"]) == ("non_block", "fp8", "random", "rtn")


def test_a_file_that_lies_in_the_place_of_another_is_refused(checkpoints: Paths, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoints["fp8-i2v-2.2"], tmp_path / "exchanged"))
    high, low = (path / f"{noise}_noise_model" / "block_0.safetensors" for noise in ("high", "low"))
    shutil.copyfile(high, low)
    assert provenance_of(high)["components"].keys() == {"transformer"}
    with pytest.raises(VqError, match="is block_0 of transformer and lies where block_0 of transformer_2"):
        provenance_of(low)
    shutil.copyfile(high.with_name("block_1.safetensors"), high)
    with pytest.raises(VqError, match="is block_1 of transformer and lies where block_0 of transformer "):
        provenance_of(high)


def test_a_file_of_a_checkpoint_that_was_changed_is_refused(checkpoints: Paths, tmp_path: Path) -> None:
    path = Path(shutil.copytree(checkpoints["fp8-i2v-2.2"], tmp_path / "edited"))
    file = path / "low_noise_model" / "block_0.safetensors"
    content = file.read_bytes()
    model = str(provenance_of(file)["model"]).encode()
    file.write_bytes(content.replace(model, model[:-1] + b"X", 1))
    with pytest.raises(VqError, match=r"block_0\.safetensors is not the file that was written"):
        provenance_of(file)
    (path / "manifest.json").unlink()  # alone it has to be believed
    assert provenance_of(file)["model"].endswith("X")


def test_rows(checkpoints: Paths, models: Paths) -> None:
    path = checkpoints["int8-smoothed"]
    rows = provenance_rows(provenance_of(path))
    manifest = open_checkpoint(path).artifact.manifest
    assert rows["model"] == f"{models['i2v']} (wan)"
    assert rows["transformer fingerprint"] == manifest.components["transformer"].fingerprint[:16]
    assert rows["made from smoothed-weights"] == manifest.parents["smoothed-weights"][:16]
    assert rows["made from activation-stats"] == "none"
    assert rows["transformer weights attn1.to_q"].startswith("SNR ")
    assert not any(row.startswith("transformer outputs") for row in rows)
    converted = provenance_rows(provenance_of(checkpoints["int8-t2v"]))
    assert (converted["smoother"], converted["rounder"]) == ("none: converted as it is", "rtn, rounding nearest-even")


def test_settings_loras_and_output_errors_are_told() -> None:
    linear = {"method": "gptq", "weight_snr_db": 41.0, "output_snr_db": 38.0}
    said: dict[str, Any] = {
        "artifact": "lightx2v-checkpoint", "tool": "t", "model": "M", "family": "wan",
        "components": {"transformer": {
            "fingerprint": "f" * 64, "lora": [{"file": "a.safetensors", "strength": 0.5, "sha256": "b" * 64}],
        }},
        "settings": {
            "scheme": "int8", "smooth": {"method": "awq", "alpha": 0.5, "awq_version": "v2", "scheme": None},
            "quantize": {"scheme": "int8", "method": "gptq", "bias_correction": True},
            "tools": {"quant-params": "vq-algos 0.1.0"}, "versions": {"torch": "1"},
        },
        "parents": {"activation-stats": "c" * 64},
        "linears": {"transformer": {"blocks.0.attn1.to_q": linear}},
    }  # fmt: skip
    rows = provenance_rows(said)
    assert rows["smoother"] == "awq, alpha 0.5, awq version v2"
    assert rows["rounder"] == "gptq, bias correction True"
    assert rows["transformer LoRA a.safetensors"] == f"strength 0.5, sha256 {'b' * 16}"
    assert rows["made from activation-stats"] == "c" * 16
    assert rows["written by, quant-params"] == "vq-algos 0.1.0"
    assert rows["transformer outputs attn1.to_q"] == "SNR 38.0 dB, lowest 38.0 dB (block 0)"


def test_an_edited_manifest_is_refused(checkpoints: Paths, tmp_path: Path) -> None:
    text = (checkpoints["int8-t2v"] / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace('"method": "rtn"', '"method": "gptq"', 1))
    with pytest.raises(VqError, match="does not match its own digest"):
        provenance_of(tmp_path)
