"""What can be wrong with an encoder is refused in a sentence that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_export.encoders import ENCODERS
from vq_export.encoders.source import open_encoders, open_file

Q = "encoder.block.1.layer.0.SelfAttention.q.weight"
K = "vision_model.encoder.layers.1.self_attn.k_proj.weight"


def refusal(model: Path | None, **files: Path) -> str:
    with pytest.raises(VqError) as refused:
        open_encoders(None if model is None else str(model), files)
    return str(refused.value)


def test_both_encoders_of_a_pipeline_are_found(pipeline: Path) -> None:
    t5, clip = open_encoders(str(pipeline), {})
    assert (t5.encoder.KEY, clip.encoder.KEY) == ("t5", "clip")
    assert t5.placeholders == []
    assert sorted(clip.placeholders) == ["log_scale", "visual.head"]
    assert clip.parts["visual.transformer.1.attn.to_qkv.weight"][1] == K


def test_a_text_to_video_pipeline_has_one(pipeline: Path) -> None:
    index = json.loads((pipeline / "model_index.json").read_text())
    for nothing in ({}, {"image_encoder": [None, None]}):
        content = {key: value for key, value in index.items() if key != "image_encoder"} | nothing
        (pipeline / "model_index.json").write_text(json.dumps(content))
        assert [source.encoder.KEY for source in open_encoders(str(pipeline), {})] == ["t5"]


def test_the_token_embedding_may_stand_twice(make_pipeline: Callable[..., Path]) -> None:
    pipeline = make_pipeline(lambda t5, _: t5.update({"encoder.embed_tokens.weight": t5["shared.weight"].clone()}))
    assert len(open_encoders(str(pipeline), {})) == 2


def test_nothing_named_is_refused(tmp_path: Path, pipeline: Path) -> None:
    assert "No encoder is named" in refusal(None)
    assert "is not a diffusers pipeline (it has no model_index.json)" in refusal(pipeline / "text_encoder")
    (pipeline / "model_index.json").write_text("{}")
    assert "lists no encoder" in refusal(pipeline)


def test_another_encoder_is_refused(pipeline: Path) -> None:
    index = json.loads((pipeline / "model_index.json").read_text())
    index["text_encoder"] = ["transformers", "T5EncoderModel"]
    (pipeline / "model_index.json").write_text(json.dumps(index))
    assert "is a T5EncoderModel, and LightX2V's is a UMT5EncoderModel" in refusal(pipeline)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("hidden_act", "quick_gelu", "says hidden_act 'quick_gelu', and LightX2V's CLIPVisionModel runs 'gelu'"),
        ("layer_norm_eps", 1e-6, "says layer_norm_eps 1e-06, and LightX2V's CLIPVisionModel runs 1e-05"),
        ("feed_forward_proj", "gated-silu", "says feed_forward_proj 'gated-silu', and LightX2V's UMT5EncoderModel"),
        ("layer_norm_epsilon", 1e-5, "says layer_norm_epsilon 1e-05, and LightX2V's UMT5EncoderModel runs 1e-06"),
        ("relative_attention_max_distance", 256, "says relative_attention_max_distance 256, and LightX2V's UMT5"),
        ("d_kv", None, "config.json lacks a whole number above 0 as 'd_kv'"),
        ("patch_size", None, "config.json lacks a whole number above 0 as 'patch_size'"),
        ("num_layers", 10**9, "`num_layers` in "),
    ],
)
def test_another_function_or_half_a_config_is_refused(
    make_pipeline: Callable[..., Path], key: str, value: object, sentence: str
) -> None:
    assert sentence in refusal(make_pipeline(**{key: value}))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda t5, clip: clip.pop(K), "lacks the tensor `encoder.layers.1.self_attn.k_proj.weight`"),
        (lambda t5, clip: t5.update({"encoder.block.2.x": torch.ones(24)}), "`encoder.block.2.x` in "),
        (lambda t5, clip: t5.update({Q: torch.ones(31, 24)}), f"`{Q}` in "),
        (lambda t5, clip: t5.update({Q: torch.ones(32, 24).char()}), f"is quantized already (`{Q}` is torch.int8)"),
    ],
    ids=["lost", "unknown", "misshapen", "quantized"],
)
def test_a_tensor_that_does_not_belong_is_refused(
    make_pipeline: Callable[..., Path], edit: Callable[..., object], sentence: str
) -> None:
    assert sentence in refusal(make_pipeline(edit))


def t5_native(blocks: int = 1) -> dict[str, Tensor]:
    tensors = {"token_embedding.weight": torch.ones(9, 8), "norm.weight": torch.ones(8)}
    for block in (f"blocks.{index}" for index in range(blocks)):
        tensors |= {f"{block}.attn.{part}.weight": torch.ones(8, 8) for part in "qkvo"}
        tensors |= {f"{block}.ffn.{part}.weight": torch.ones(16, 8) for part in ("gate.0", "fc1")}
        tensors |= {f"{block}.ffn.fc2.weight": torch.ones(8, 16)}
        tensors |= {f"{block}.{norm}.weight": torch.ones(8) for norm in ("norm1", "norm2")}
        tensors[f"{block}.pos_embedding.embedding.weight"] = torch.ones(32, 2)
    return tensors


def test_a_native_file_alone_or_in_the_place_of_the_pipelines(pipeline: Path, tmp_path: Path) -> None:
    path = tmp_path / "t5.safetensors"
    save_file(t5_native(2), path)
    (source,) = open_encoders(None, {"t5": path})
    assert source.shapes["blocks.1.ffn.fc2.weight"] == (8, 16)
    assert set(source.parts.values()) == {(name,) for name in t5_native(2)}
    t5, clip = open_encoders(str(pipeline), {"t5": path})
    assert (t5.reader.where, clip.reader.where) == (path, pipeline / "image_encoder")


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"a": torch.ones(1)}, "is not the file of a t5 encoder ('token_embedding.weight')"),
        (t5_native() | {"head.weight": torch.ones(2)}, "`head.weight` in "),
        (t5_native() | {"blocks.0.attn.k.weight": torch.ones(8, 9)}, "`blocks.0.attn.k.weight` in "),
        (t5_native() | {"blocks.0.attn.k.weight": torch.ones(1, 8, 8)}, "`blocks.0.attn.k.weight` in "),
        (t5_native() | {"blocks.0.attn.k.weight": torch.ones(8, 8, dtype=torch.int8)}, "is quantized already"),
        (t5_native() | {"blocks.0.attn.k.weight_scale": torch.ones(8, 1)}, "is quantized already"),
    ],
)
def test_a_native_file_that_is_not_one_is_refused(tensors: dict[str, Tensor], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "t5.safetensors"
    save_file(tensors, path)
    assert sentence in refusal(None, t5=path)


def test_a_clip_file_is_no_t5_file(tmp_path: Path, pipeline: Path) -> None:
    path = next((pipeline / "image_encoder").glob("*.safetensors"))
    with pytest.raises(VqError, match="is not the file of a clip encoder"):
        open_file(path, ENCODERS["clip"])


def test_pieces_of_fused_parts_come_in_order(pipeline: Path) -> None:
    _, clip = open_encoders(str(pipeline), {})
    fused = torch.cat(list(clip.pieces("visual.transformer.0.attn.to_qkv.weight")))
    parts: list[Any] = [
        torch.cat(list(clip.reader.pieces(f"vision_model.encoder.layers.0.self_attn.{it}_proj.weight"))) for it in "qkv"
    ]
    assert torch.equal(fused, torch.cat(parts))
