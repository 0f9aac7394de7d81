"""The encoders' files: dtypes, shapes, values, names, and what is refused as they are written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import read_metadata
from vq_core.numerics.scheme import scheme_named
from vq_core.store.reader import open_artifact
from vq_core.store.resumable_folder import partial_folder
from vq_export.encoders import clip, readers
from vq_export.encoders.export import FORMAT, KIND, export_encoders
from vq_export.encoders.source import open_encoders

T5_FILE = "models_t5_umt5-xxl-enc"
CLIP_FILE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


def export(pipeline: Path, scheme: str, output: Path, **options: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of both files."""
    sources = open_encoders(str(pipeline), {})
    export_encoders(sources, scheme_named(scheme), output, model=str(pipeline), **options)
    if options.get("pth"):
        paths = [output / f"{stem}-{scheme}.pth" for stem in (T5_FILE, CLIP_FILE)]
        t5, clip = (torch.load(path, weights_only=True) for path in paths)  # noqa: TID251
    else:
        t5, clip = (load_file(output / f"{stem}-{scheme}.safetensors") for stem in (T5_FILE, CLIP_FILE))
    return t5, clip


def specs(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("pth", [False, True])
def test_every_tensor_of_lightx2vs_modules_and_no_other(pipeline: Path, scheme: str, pth: bool, tmp_path: Path) -> None:
    t5, clip = export(pipeline, scheme, tmp_path / "out", pth=pth)
    codes, scale, bf16, fp16 = CODES[scheme], torch.float32, torch.bfloat16, torch.float16
    expected: dict[str, Any] = {"token_embedding.weight": (bf16, (50, 24)), "norm.weight": (bf16, (24,))}
    for block in ("blocks.0", "blocks.1"):
        for name, shape in {
            "attn.q": (32, 24), "attn.k": (32, 24), "attn.v": (32, 24), "attn.o": (24, 32),
            "ffn.gate.0": (40, 24), "ffn.fc1": (40, 24), "ffn.fc2": (24, 40),
        }.items():  # fmt: skip
            expected[f"{block}.{name}.weight"] = (codes, shape)
            expected[f"{block}.{name}.weight_scale"] = (scale, (shape[0], 1))
        expected |= {f"{block}.{norm}.weight": (bf16, (24,)) for norm in ("norm1", "norm2")}
        expected[f"{block}.pos_embedding.embedding.weight"] = (bf16, (32, 4))
    assert specs(t5) == expected

    expected = {
        "log_scale": (fp16, ()),
        "visual.head": (fp16, (16, 1024)),
        "visual.cls_embedding": (fp16, (1, 1, 16)),
        "visual.pos_embedding": (fp16, (1, 5, 16)),
        "visual.patch_embedding.weight": (fp16, (16, 3, 14, 14)),
    }
    norms = ["visual.pre_norm", "visual.post_norm"]
    for layer in ("visual.transformer.0", "visual.transformer.1"):
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
        linears = {"attn.to_qkv": (48, 16), "attn.proj": (16, 16), "mlp.0": (48, 16), "mlp.2": (16, 48)}
        for name, shape in linears.items():
            expected[f"{layer}.{name}.weight"] = (codes, shape)
            expected[f"{layer}.{name}.weight_scale"] = (scale, (shape[0], 1))
            expected[f"{layer}.{name}.bias"] = (fp16, (shape[0],))
    expected |= {f"{norm}.{part}": (fp16, (16,)) for norm in norms for part in ("weight", "bias")}
    assert specs(clip) == expected


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_a_linear_is_within_half_a_step_of_its_source(pipeline: Path, scheme: str, tmp_path: Path) -> None:
    t5, clip = export(pipeline, scheme, tmp_path / "out")
    source = {}
    for path in pipeline.rglob("*.safetensors"):
        source |= load_file(path)
    qkv = [source[f"vision_model.encoder.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    for tensors, name, weight in (
        (t5, "blocks.1.ffn.gate.0", source["encoder.block.1.layer.1.DenseReluDense.wi_0.weight"]),
        (t5, "blocks.0.attn.o", source["encoder.block.0.layer.0.SelfAttention.o.weight"]),
        (clip, "visual.transformer.1.attn.to_qkv", torch.cat(qkv)),
    ):
        codes, scale = tensors[f"{name}.weight"].double(), tensors[f"{name}.weight_scale"].double()
        step = 0.5 * scale if scheme == "int8" else (weight.double().abs() / 16).maximum(scale * 2.0**-10)
        assert ((codes * scale - weight.double()).abs() <= step * (1 + 1e-5)).all(), name
        assert torch.equal(scale.bfloat16().double(), scale)
    assert torch.equal(t5["token_embedding.weight"], source["shared.weight"].bfloat16())
    assert not clip["visual.head"].any()


def test_pieces_and_file_formats_change_nothing(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export(pipeline, "int8", tmp_path / "whole")
    pth = export(pipeline, "int8", tmp_path / "pth", pth=True)
    monkeypatch.setattr(readers, "PIECE_BYTES", 320)  # CLIP's positions, which gain a dimension, still are one piece
    pieces = export(pipeline, "int8", tmp_path / "pieces")
    for first, *others in zip(whole, pth, pieces, strict=True):
        for other in others:
            assert first.keys() == other.keys()
            assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_files_say_where_they_come_from(pipeline: Path, tmp_path: Path) -> None:
    export(pipeline, "fp8", tmp_path / "out")
    metadata = read_metadata(tmp_path / "out" / f"{CLIP_FILE}-fp8.safetensors")
    assert metadata["model"] == str(pipeline)
    assert metadata["tool"].startswith("vq-export ")
    assert json.loads(metadata["settings"]) == {"scheme": "fp8", "method": "rtn", "rounding": "nearest-even"}
    assert sorted(json.loads(metadata["placeholders"])) == ["log_scale", "visual.head"]
    manifest = open_artifact(tmp_path / "out", KIND, FORMAT).manifest
    assert manifest.model == str(pipeline)
    assert set(manifest.files) == {f"{T5_FILE}-fp8.safetensors", f"{CLIP_FILE}-fp8.safetensors"}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("encoder.layers.1.mlp.fc1.weight", float("nan"), "`visual.transformer.1.mlp.0.weight` in .* NaN or infinite"),
        ("pre_layrnorm.weight", 70000.0, "`visual.pre_norm.weight` .* 70000, which torch.float16 cannot hold"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_by_name(
    make_pipeline: Callable[..., Path], tmp_path: Path, name: str, value: float, sentence: str
) -> None:
    output = tmp_path / "out"
    damaged = make_pipeline(lambda _, clip: clip[f"vision_model.{name}"].view(-1)[5].fill_(value))
    with pytest.raises(VqError, match=sentence):
        export(damaged, "int8", output)
    assert not output.exists()
    assert [path.name for path in partial_folder(output).glob("[!.]*")] == [f"{T5_FILE}-int8.safetensors"]


def test_an_interrupted_run_is_continued(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    sources = open_encoders(str(pipeline), {})
    with monkeypatch.context() as patch:
        patch.setattr(clip, "QUANTIZED", Mock(fullmatch=interrupted))
        with pytest.raises(KeyboardInterrupt):
            export_encoders(sources, scheme_named("int8"), output, model=str(pipeline))
    assert [path.name for path in partial_folder(output).glob("[!.]*")] == [f"{T5_FILE}-int8.safetensors"]
    with pytest.raises(VqError, match="continue it with --resume"):
        export(pipeline, "int8", output)
    export(pipeline, "int8", output, resume=True)
    export(pipeline, "int8", tmp_path / "undisturbed")
    for path in output.iterdir():
        assert path.read_bytes() == (tmp_path / "undisturbed" / path.name).read_bytes()


def test_the_command(pipeline: Path, vq_export: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert vq_export("encoders", "--model", pipeline, "--scheme", "int8", "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "LightX2V cannot load it: it builds other sizes" in printed
    assert f'"t5_quantized_ckpt": "{tmp_path}/out/{T5_FILE}-int8.safetensors"' in printed
    arguments = ("--model", pipeline, "--scheme", "int8", "--pth", "-o", tmp_path / "pth", "--json")
    assert vq_export("encoders", *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in result["files"]] == [f"{T5_FILE}-int8.pth", f"{CLIP_FILE}-int8.pth"]
    assert result["run_config"] == {
        "t5_quantized": True,
        "t5_quant_scheme": "int8-vllm",
        "t5_quantized_ckpt": f"{tmp_path}/pth/{T5_FILE}-int8.pth",
        "clip_quantized": True,
        "clip_quant_scheme": "int8-vllm",
        "clip_quantized_ckpt": f"{tmp_path}/pth/{CLIP_FILE}-int8.pth",
    }
