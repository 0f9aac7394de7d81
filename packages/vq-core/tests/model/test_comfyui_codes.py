"""What ComfyUI's tools have rounded is read as codes times scale, and what is more than that is refused by name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families.wan import to_native
from vq_core.files.tensor_folder import gather_tensors
from vq_core.model.comfyui_codes import dequantize_comfyui, rotation_of
from vq_core.model.source import open_source
from vq_core.model.tensor_naming import StoredTensor, load_stored

STEM = "blocks.0.attn1.to_q"
CODES: dict[str, Tensor] = {
    "fp8": torch.randn(4, 8).to(torch.float8_e4m3fn),
    "e5m2": torch.randn(4, 8).to(torch.float8_e5m2),
    "int8": torch.randint(-128, 128, (4, 8), dtype=torch.int8),
}
ONE, ROWS, BLOCKS = torch.tensor(0.3), torch.rand(4, 1) + 0.1, torch.rand(4, 2, 1).bfloat16() + 0.1


def mark(content: object) -> Tensor:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def dequantized(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> tuple[dict[str, StoredTensor], str]:
    save_file({name: it.clone() for name, it in tensors.items()}, path / "x.safetensors", metadata)
    files = gather_tensors([path / "x.safetensors"])
    return dequantize_comfyui({name: StoredTensor(file, name) for name, file in files.items()}, path)


def parts(**named: Tensor) -> dict[str, Tensor]:
    return {f"{STEM}.{part}": tensor for part, tensor in named.items()}


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(
    "scale", [ONE, ONE.reshape(1), ROWS, ROWS.flatten(), BLOCKS], ids=lambda it: str(tuple(it.shape))
)
def test_first_generation(tmp_path: Path, codes: str, scale: Tensor) -> None:
    bias = torch.randn(4).half()
    stored = parts(weight=CODES[codes], scale_weight=scale, scale_input=torch.tensor(2.0), bias=bias)
    found, said = dequantized(tmp_path, stored | {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)})
    assert found.keys() == {f"{STEM}.weight", f"{STEM}.bias"}
    loaded = load_stored(found)
    wide = scale.float().expand(4, 2, 1) if scale.ndim == 3 else scale.float().reshape(-1, 1, 1).expand(4, 2, 1)
    expected = (CODES[codes].float().reshape(4, 2, 4) * wide).reshape(4, 8)
    assert torch.equal(loaded[f"{STEM}.weight"], expected)
    assert torch.equal(loaded[f"{STEM}.bias"], bias)
    assert found[f"{STEM}.weight"].info[:2] == ("F32", (4, 8))
    assert said.startswith("1 weights in ")


NEW = {"fp8": "float8_e4m3fn", "e5m2": "float8_e5m2", "int8": "int8_tensorwise"}


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("scale", [ONE, ROWS], ids=["one", "rows"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("place", ["tensor", "header", "both"])
def test_second_generation(tmp_path: Path, codes: str, scale: Tensor, prefix: str, place: str) -> None:
    said = {"format": NEW[codes], "full_precision_matrix_mult": True, "convrot": False, "convrot_groupsize": 256}
    stored = parts(weight=CODES[codes], weight_scale=scale, input_scale=ONE)
    metadata = None
    if place != "header":
        stored |= parts(comfy_quant=mark(said))
    if place != "tensor":
        layers = {"format_version": "1.0", "layers": {STEM: said, "of.another": said}}
        metadata = {"_quantization_metadata": json.dumps(layers)}
    save_file({f"{prefix}{name}": it.clone() for name, it in stored.items()}, tmp_path / "x.safetensors", metadata)
    files = gather_tensors([tmp_path / "x.safetensors"])
    named = {name.removeprefix(prefix): StoredTensor(file, name) for name, file in files.items()}
    found, _ = dequantize_comfyui(named, tmp_path)
    (weight,) = load_stored(found).values()
    assert torch.equal(weight, CODES[codes].float() * scale)


@pytest.mark.parametrize("place", ["tensor", "both"])
def test_rotated_weights_are_rotated_back(tmp_path: Path, place: str) -> None:
    h4 = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
    stored = parts(weight=CODES["int8"], weight_scale=ROWS, comfy_quant=mark(ROTATED))
    metadata = {"_quantization_metadata": json.dumps({"layers": {STEM: ROTATED}})} if place == "both" else None
    found, _ = dequantized(tmp_path, stored, metadata)
    expected = ((CODES["int8"].float() * ROWS).reshape(4, 2, 4) @ h4).reshape(4, 8)
    torch.testing.assert_close(load_stored(found)[f"{STEM}.weight"], expected)


def test_two_words_about_a_rotation_are_refused(tmp_path: Path) -> None:
    stored = parts(weight=CODES["int8"], weight_scale=ROWS, comfy_quant=mark(ROTATED))
    metadata = {"_quantization_metadata": json.dumps({"layers": {STEM: PLAIN}})}
    with pytest.raises(VqError, match="is rotated according to its marker or its header, not to both"):
        dequantized(tmp_path, stored, metadata)


def test_a_whole_weight_with_a_scale_of_one_is_itself(tmp_path: Path) -> None:
    weight = torch.randn(4, 8).bfloat16()
    found, said = dequantized(tmp_path, parts(weight=weight, scale_weight=torch.ones(1)))
    assert torch.equal(load_stored(found)[f"{STEM}.weight"], weight)
    assert said == ""


def test_what_is_not_for_comfyui_is_left_as_it_is(tmp_path: Path) -> None:
    stored = parts(weight=CODES["int8"], weight_scale=ROWS)
    found, said = dequantized(tmp_path, stored)
    assert (found.keys(), said) == (stored.keys(), "")
    assert found[f"{STEM}.weight"].info.dtype == "I8"


INT8 = parts(weight=CODES["int8"], weight_scale=ROWS)
PLAIN = {"format": "int8_tensorwise"}
ROTATED = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 4}
REFUSALS: dict[str, tuple[dict[str, Tensor], str]] = {
    "256 of 8": (INT8 | parts(comfy_quant=mark(PLAIN | {"convrot": True})), r"groups of 256, and its shape is \[4, 8"),
    "a word": (INT8 | parts(comfy_quant=mark(ROTATED | {"convrot_groupsize": "4"})), r"groups of '4', and its shape"),
    "nested": (INT8 | parts(comfy_quant=mark(PLAIN | {"params": {"convrot": True}})), "is rotated in another way"),
    "hadamard": (INT8 | parts(comfy_quant=mark(PLAIN | {"hadamard": 128})), r"another way than .* \(hadamard\)"),
    "twice": (INT8 | parts(comfy_quant=mark(ROTATED | {"hadamard": 4})), "is rotated in another way"),
    "NVFP4": (INT8 | parts(comfy_quant=mark({"format": "nvfp4"})), "for ComfyUI as nvfp4, and float8_e4m3fn,"),
    "no format": (INT8 | parts(comfy_quant=mark({"per_row": True})), "as something that it does not say"),
    "no object": (INT8 | parts(comfy_quant=mark([1])), "as something that it does not say"),
    "strange format": (INT8 | parts(comfy_quant=mark({"format": ["int8_tensorwise"]})), "as something|int8_tensorwise"),
    "no JSON": (INT8 | parts(comfy_quant=mark(b"{")), r"comfy_quant` in \S+ is not JSON"),
    "no text": (INT8 | parts(comfy_quant=torch.ones(3)), r"comfy_quant` in \S+ is F32 and no short text"),
    "long text": (INT8 | parts(comfy_quant=mark(b" " * 9000)), "is U8 and no short text"),
    "other codes": (INT8 | parts(comfy_quant=mark({"format": "float8_e4m3fn"})), "is I8 and marked as float8_e4m3fn"),
    "no scale": (parts(weight=CODES["int8"], comfy_quant=mark(PLAIN)), r"lacks the tensor `\S+to_q.weight_scale`"),
    "no weight": (parts(weight_scale=ROWS, comfy_quant=mark(PLAIN)), r"lacks the tensor `\S+to_q.weight`"),
    "a grid of scales": (parts(weight=CODES["fp8"], scale_weight=torch.ones(2, 4)), r"is \[2, 4\] and the weight"),
    "half a block": (parts(weight=CODES["fp8"], scale_weight=torch.ones(4, 3, 1)), r"is \[4, 3, 1\] and the weight"),
    "too many rows": (parts(weight=CODES["fp8"], scale_weight=torch.ones(5)), r"is \[5\] and the weight"),
    "packed codes": (parts(weight=torch.ones(4, 8, dtype=torch.uint8), scale_weight=ONE), "is U8 with a scale in F32"),
    "whole numbers": (parts(weight=CODES["fp8"], scale_weight=torch.ones(1, dtype=torch.int32)), "with a scale in I32"),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_when_it_is_opened(tmp_path: Path, stored: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        dequantized(tmp_path, stored)


@pytest.mark.parametrize("noted", ["{", "[]", '{"layers": []}'])
def test_refuses_a_header_that_names_no_layers(tmp_path: Path, noted: str) -> None:
    with pytest.raises(VqError, match="_quantization_metadata` in .* (is not JSON|names no layers)"):
        dequantized(tmp_path, INT8, {"_quantization_metadata": noted})


NAN = torch.tensor([[float("nan")] * 8] * 4).to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (parts(weight=NAN, scale_weight=ONE), "has 32 values of 32 that are NaN"),
        (parts(weight=CODES["fp8"], scale_weight=torch.tensor(float("inf"))), "that are NaN or infinite"),
        (
            parts(weight=CODES["fp8"], scale_weight=-ONE),
            r"The scale of `\S+weight` in \S+ has values that are not positive",
        ),
        (parts(weight=CODES["int8"].clamp(min=1), scale_weight=0 * ROWS), "values that are not positive"),
        (parts(weight=torch.ones(4, 8), scale_weight=ONE), "is not 1, and the weight is no codes"),
    ],
)
def test_refused_when_it_is_read(tmp_path: Path, stored: dict[str, Tensor], sentence: str) -> None:
    found, _ = dequantized(tmp_path, stored)
    with pytest.raises(VqError, match=sentence):
        load_stored(found)


def test_rows_of_zeros_have_no_scale(tmp_path: Path) -> None:
    found, _ = dequantized(tmp_path, parts(weight=0 * CODES["int8"], scale_weight=0 * ROWS))
    assert not load_stored(found)[f"{STEM}.weight"].any()


def test_a_whole_model(
    tmp_path: Path,
    t2v_config: dict[str, Any],
    random_tensors: Callable[..., dict[str, Tensor]],
    write_native: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors = random_tensors(t2v_config)
    folder = write_native(tmp_path / "m", t2v_config, tensors)
    stored, expected = {"scaled_fp8": torch.zeros(0).to(torch.float8_e4m3fn)}, dict(tensors)
    for name, tensor in tensors.items():
        stored[to_native(name)] = tensor
        if name.startswith("blocks.") and name.endswith(".weight") and tensor.ndim == 2:
            scale = tensor.float().abs().max() / 448
            codes = (tensor.float() / scale).to(torch.float8_e4m3fn)
            stored |= {to_native(name): codes, f"{to_native(name).removesuffix('weight')}scale_weight": scale}
            expected[name] = codes.float() * scale
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in stored.items()}
    save_file(prefixed, folder / "diffusion_pytorch_model.safetensors")
    source = open_source(str(folder))
    component = source.components["transformer"]
    loaded = component.plain(expected)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert source.rounded
    assert "was quantized before, 20 weights in F8_E4M3, and is read dequantized" in caplog.text
    before = component.fingerprint
    prefixed["model.diffusion_model.blocks.0.self_attn.q.scale_weight"] *= 2
    save_file(prefixed, folder / "diffusion_pytorch_model.safetensors")
    assert open_source(str(folder)).components["transformer"].fingerprint != before


def test_a_rotation_without_a_size_is_of_256_and_one_of_no_number_of_none() -> None:
    assert rotation_of({"convrot": True}) == 256
    assert rotation_of({"convrot": True, "convrot_groupsize": "4"}) == 0
    assert rotation_of({"convrot": True, "convrot_groupsize": 1}) == 0
    assert rotation_of({"convrot": False, "convrot_groupsize": 4}) == 1
