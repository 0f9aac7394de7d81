"""What comfy-kitchen, which multiplies for ComfyUI, makes of a written file: `make test-comfyui`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vq_core.numerics.grouped import Packed, nearest_codes, pack, unpack
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Groups, Quantized, dequantize, quantize_tokens, quantize_weight
from vq_core.numerics.rotation import rotate
from vq_core.numerics.scheme import INT8
from vq_export.targets.comfyui import export

kitchen = pytest.importorskip("comfy_kitchen", reason="make test-comfyui has it")

LAYOUTS = {
    "int8_tensorwise": "TensorWiseINT8Layout",
    "float8_e4m3fn": "TensorCoreFP8Layout",
    "asym_w4a8_int8": "AsymW4A8Int8Layout",
}
BF16_NOISE = 2e-4
"""Noise over signal of a product whose activations are rotated, scaled and given back in bfloat16."""


def _read(file: dict[str, Tensor], stem: str) -> Any:
    """The weight of `stem` as ComfyUI builds it from the tensors and from what the marker says."""
    marker = json.loads(file[f"{stem}.comfy_quant"].numpy().tobytes())
    layout = kitchen.tensor.get_layout_class(LAYOUTS[marker.pop("format")])
    marker.pop("full_precision_matrix_mult", None)
    codes = file[f"{stem}.weight"]
    if layout.__name__ == "AsymW4A8Int8Layout":
        assert marker.pop("convrot") is True  # for SGLang; ComfyUI rotates always
        params = layout.Params(
            scale=file[f"{stem}.weight_s_rel"],
            s_channel=file[f"{stem}.weight_s_channel"],
            codebook=file.get(f"{stem}.weight_codebook"),
            orig_dtype=torch.float32,
            orig_shape=(len(codes), file[f"{stem}.weight_s_rel"].shape[1] * marker["group_size"]),
            **marker,
        )
        return kitchen.tensor.QuantizedTensor(codes, layout.__name__, params)
    params = layout.Params(
        scale=file[f"{stem}.weight_scale"], orig_dtype=torch.float32, orig_shape=tuple(codes.shape), **marker
    )
    return kitchen.tensor.QuantizedTensor(codes, layout.__name__, params)


@pytest.fixture(params=[("int8", 1), ("int8", 16), ("int8", 64), ("w6a8", 16), ("w4a8", 64)], ids=str)
def rotated(request: pytest.FixtureRequest, models: dict[str, Path], make_artifacts: Any, tmp_path: Path) -> Any:
    """A model whose codes are rotated in groups of so many channels, and the file that was written of it."""
    scheme, group = request.param
    made = make_artifacts(models["i2v"], scheme, octaves=0, rotation=group).opened()
    export(made, tmp_path / "out")
    return made, load_file(tmp_path / "out" / f"wan_i2v_{scheme}.safetensors")


def test_every_linear_is_the_function_that_was_quantized(rotated: Any) -> None:
    model, file = rotated
    component = model.components["transformer"]
    generator = torch.Generator().manual_seed(0)
    for linear in component.topology.linears:
        stem = model.family.to_native(f"{linear.name}.weight").removesuffix(".weight")
        weight, ours = _read(file, stem), component.linear(linear.name)
        x = torch.randn(5, 7, linear.in_features, generator=generator)
        x[..., 3] *= 30
        expected = w8a8_linear(x, ours, None, INT8.activation)
        torch.testing.assert_close(F.linear(x, weight), expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(weight.dequantize(), dequantize(ours), rtol=1e-5, atol=1e-6)
        noise = F.linear(x.bfloat16(), weight).float() - expected
        assert float(noise.square().sum() / expected.square().sum()) < BF16_NOISE


@pytest.mark.parametrize("group", [16, 256])
def test_codes_are_its_own(group: int) -> None:
    quantization = pytest.importorskip("comfy_kitchen.backends.eager.quantization")
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 512, generator=generator) for rows in (40, 24))
    x[:, 3] *= 30
    hadamard = kitchen.tensor.int8_utils._build_hadamard(group)
    codes, scale = quantization.quantize_and_rotate_rowwise(x, hadamard, group)
    tokens = quantize_tokens(x, INT8.activation, group=group)
    assert torch.equal(codes, tokens.codes)
    torch.testing.assert_close(scale, tokens.scale, rtol=1e-6, atol=0)
    # Its scales are not rounded up to bfloat16: at its own scales our codes are its codes.
    codes, scale = quantization.quantize_int8_convrot_weight(weight, group)
    turned = rotate(weight, group)
    assert torch.equal((turned / scale).round().to(torch.int8), codes)
    ours = quantize_weight(turned, INT8.weight)
    assert ((ours.scale >= scale * (1 - 1e-6)) & (ours.scale <= scale * (1 + 2**-7))).all()


@pytest.mark.parametrize("bits", [4, 6])
def test_packed_codes_are_its_own(bits: int) -> None:
    eager = pytest.importorskip("comfy_kitchen.backends.eager.w4a8_int8")
    weight = torch.randn(24, 512, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, 512)
    codes, group_scale, scale, _, codebook = eager._quantize_rotated_w4a8_int8_weight(weight, bits=bits)
    unpacked = unpack(Packed(codes, group_scale, scale.unsqueeze(1), 1))
    assert torch.equal(unpacked.codes, eager._dequant_int4_grouped_to_int8(codes, group_scale, codebook, 16))
    # At its scales we choose as it does, but for values halfway between two levels.
    ours = nearest_codes(weight, scale.unsqueeze(1), Groups(group_scale, bits))
    assert (ours.codes == unpacked.codes).float().mean() > 0.999
    packed_anew = pack(unpacked._replace(groups=Groups(group_scale, bits)))
    assert torch.equal(unpack(packed_anew).codes, unpacked.codes)


def test_fp8_weights_are_what_was_rounded(models: dict[str, Path], convert: Callable[..., Any], tmp_path: Path) -> None:
    export(convert(models["t2v"], "fp8"), tmp_path / "out")
    file = load_file(tmp_path / "out" / "wan_t2v_fp8.safetensors")
    weight = _read(file, "blocks.0.self_attn.q")
    expected = dequantize(Quantized(file["blocks.0.self_attn.q.weight"], file["blocks.0.self_attn.q.weight_scale"]))
    assert torch.equal(weight.dequantize(), expected)
