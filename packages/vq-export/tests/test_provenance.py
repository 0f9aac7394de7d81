"""Every file says how it was made, in bytes that loaders skip and that are the same every time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.errors import VqError
from vq_core.files.tensor_file import read_header, read_metadata
from vq_core.model.source import open_source
from vq_core.numerics.quantize import dequantize, snr_db
from vq_export.provenance import file_metadata, read_provenance

Paths = dict[str, Path]


def test_a_file_says_all_of_it(checkpoints: Paths, smoothed_i2v: dict[str, Any], models: Any) -> None:
    said = read_provenance(checkpoints["int8-smoothed"] / "block_1.safetensors")
    manifest = open_checkpoint(checkpoints["int8-smoothed"]).artifact.manifest
    assert (said["artifact"], said["model"], said["family"]) == ("lightx2v-checkpoint", str(models["i2v"]), "wan")
    assert (said["component"], said["shard"], said["lora"]) == ("transformer", "block_1", [])
    assert said["fingerprint"] == open_source(str(models["i2v"])).fingerprints["transformer"]
    assert said["settings"] == manifest.settings
    assert said["settings"]["smooth"] == {"method": "random"}
    assert said["settings"]["tools"] == {"smoothed-weights": "test", "quant-params": "test"}
    assert said["settings"]["versions"]["torch"] == torch.__version__.partition("+")[0] or "+" in torch.__version__
    qparams = open_qparams(smoothed_i2v["int8"].qparams)
    assert said["parents"]["quant-params"] == qparams.artifact.digest
    decided = qparams.decisions("transformer")
    assert said["linears"] == {name: how for name, how in decided.items() if name.startswith("blocks.1.")}
    assert len(said["linears"]) == 12
    assert set(said["settings"]["versions"]) == {"python", "torch", "safetensors"}


def test_the_manifest_says_the_error_of_every_linear(checkpoints: Paths, models: Paths) -> None:
    checkpoint = open_checkpoint(checkpoints["fp8-i2v-2.2"])
    source = open_source(str(models["i2v-2.2"]))
    for name, component in checkpoint.components.items():
        measured: Any = checkpoint.artifact.manifest.measured[name]
        assert set(measured) == {linear.name for linear in component.topology.linears}
        for linear in ("blocks.0.attn1.to_q", "blocks.1.ffn.net.2"):
            weight = source.components[name].plain([f"{linear}.weight"])[f"{linear}.weight"]
            rounded = dequantize(component.linear(linear))
            some = slice(None, None, 32)  # the rows that are measured
            assert measured[linear]["weight_snr_db"] == pytest.approx(snr_db(weight[some], rounded[some]), abs=1e-3)
            assert measured[linear]["weight_snr_db"] == pytest.approx(snr_db(weight, rounded), abs=3)


def test_loaders_skip_it(checkpoints: Paths) -> None:
    """LightX2V reads with `safe_open` and by the keys; the metadata are no key, and small."""
    path = checkpoints["int8-i2v"] / "block_0.safetensors"
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(read_header(path)) == set(load_file(path))
        assert file.metadata()["format"] == "pt"
    assert set(read_metadata(path)) == {"format", "vq"}
    assert len(read_metadata(path)["vq"]) < 3000


def test_only_what_matters_of_a_decision_is_kept(smoothed_i2v: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, kept = smoothed_i2v["int8"].opened(), {"method": "gptq", "weight_snr_db": None, "output_snr_db": 3.0}
    decided = kept | {"bucket_snr_db": [1, 2], "damp": 0.01}
    monkeypatch.setattr(model.components["transformer"], "decided", lambda linear: decided)
    linears = ["blocks.0.attn1.to_q", "blocks.0.ffn.net.2"]
    content = json.loads(file_metadata(model, "kind", "transformer", "block_0", linears)["vq"])
    assert content["linears"] == dict.fromkeys(linears, kept)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (None, "x.safetensors does not say how it was quantized"),
        ({"vq": "{"}, "x.safetensors does not say how it was quantized"),
        ({"vq": "[1]"}, "metadata of .*x.safetensors are not whole"),
        ({"vq": '{"component": "transformer"}'}, "metadata of .*x.safetensors are not whole"),
    ],
)
def test_a_file_that_does_not_say_it_is_refused(tmp_path: Path, said: dict[str, str] | None, sentence: str) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors", metadata=said)
    with pytest.raises(VqError, match=sentence):
        read_provenance(tmp_path / "x.safetensors")
