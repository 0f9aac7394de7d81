"""The file for ComfyUI, read and run as ComfyUI does, is the transformer that diffusers runs.

What ComfyUI does is written out here in plain torch: how it finds a linear's format and dequantizes it (its
`comfy/utils.py`, `comfy/ops.py` and comfy-kitchen's `int8_linear` and `dequantize_per_tensor_fp8`), and its Wan model
by native names. Everything computes in fp32; errors are ‖Δ‖ / ‖reference‖.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tests.comparing import FP32_ROUNDING, prediction, relative_error
from torch import Tensor, nn

HEADS, HEAD_DIM, FREQ_DIM = 4, 16, 32
DIM = HEADS * HEAD_DIM
PREDICTION_SHAPE = (1, 16, 2, 8, 8)
EIGHT_BIT_ROUNDING = 0.12  # of this model; a tensor in the wrong place gives about 1

Linear = Callable[[Tensor], Tensor]


class ComfyFile:
    """A file as ComfyUI's loader takes it: every linear by its stem, ready to be called, and every other tensor."""

    def __init__(self, path: Path, *, whole_activations: bool) -> None:
        """`whole_activations` leaves the input of INT8 linears unquantized, to look at the weights alone."""
        with safe_open(path, framework="pt") as file:
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
            metadata = file.metadata()
        # Both ways of naming a format say the same.
        layers = json.loads(metadata["_quantization_metadata"])["layers"]
        markers = {
            name.removesuffix(".comfy_quant"): json.loads(tensor.numpy().tobytes())
            for name, tensor in self.tensors.items()
            if name.endswith(".comfy_quant")
        }
        assert layers == markers
        self._layers = layers
        self._whole_activations = whole_activations

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].float()

    def linear(self, stem: str) -> Linear:
        weight, bias = self.tensors[f"{stem}.weight"], self[f"{stem}.bias"]
        match self._layers.get(stem):
            case None:
                return lambda x: F.linear(x, weight.float(), bias)
            case {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}:
                assert weight.dtype == torch.float8_e4m3fn
                scale = self.tensors[f"{stem}.weight_scale"]
                assert scale.numel() == 1  # its CUDA kernel takes no other
                return lambda x: F.linear(x, weight.float() * scale, bias)
            case {"format": "int8_tensorwise"}:
                assert weight.dtype == torch.int8
                scale = self.tensors[f"{stem}.weight_scale"]
                assert scale.numel() in (1, len(weight))
                layer = self._layers[stem]
                hadamard = regular_hadamard(layer["convrot_groupsize"] if layer.get("convrot") else 1)
                return lambda x: self._int8_linear(turned(x, hadamard), weight, scale.reshape(-1), bias)
            case {"format": "asym_w4a8_int8", "group_size": 16, "convrot": True, "convrot_groupsize": size}:
                codes, scale = self._decoded(stem), self.tensors[f"{stem}.weight_s_channel"]
                return lambda x: self._int8_linear(turned(x, regular_hadamard(size)), codes, scale, bias)
            case unknown:
                raise AssertionError(unknown)

    def _decoded(self, stem: str) -> Tensor:
        """The INT8 values of 4 or 6 bits, by their width."""
        group_scale = self[f"{stem}.weight_s_rel"].repeat_interleave(16, dim=1)
        raw = self.tensors[f"{stem}.weight"].view(torch.uint8).int()
        columns = group_scale.shape[1]
        nibbles = raw[:, : columns // 2].repeat_interleave(2, dim=1)
        codes = torch.where(torch.arange(columns) % 2 == 0, nibbles % 16, nibbles // 16)
        if raw.shape[1] == columns // 2:
            levels = self[f"{stem}.weight_codebook"][codes]
        else:
            high = raw[:, columns // 2 :].repeat_interleave(4, dim=1) // 4 ** (torch.arange(columns) % 4) % 4
            levels = (codes + 16 * high - 32).float()
        return (levels * group_scale).round().clamp(-127, 127)

    def _int8_linear(self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if self._whole_activations:
            return F.linear(x, weight.float() * scale[:, None], bias)
        x_scale = (x.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=1e-30)
        codes = (x / x_scale).round().clamp(-128, 127)
        return (codes.double() @ weight.double().T).float() * (scale * x_scale) + bias


def regular_hadamard(size: int) -> Tensor:
    h4 = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]])
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(matrix, h4)
    return matrix / size**0.5


def turned(x: Tensor, matrix: Tensor) -> Tensor:
    """Each group of channels times `matrix`."""
    return (x.unflatten(-1, (-1, len(matrix))) @ matrix).flatten(-2)


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], weight, eps=1e-6)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """`x` [tokens, heads, head_dim], `angles` [tokens, head_dim / 2]."""
    turned = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2)) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    return torch.view_as_real(turned).flatten(-2).float()


def rope_angles(grid: tuple[int, int, int]) -> Tensor:
    side = 2 * (HEAD_DIM // 6)
    parts = []
    for axis, dim in enumerate((HEAD_DIM - 2 * side, side, side)):
        frequencies = 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        positions = torch.arange(grid[axis], dtype=torch.float64)
        shape = [1, 1, 1, dim // 2]
        shape[axis] = grid[axis]
        parts.append(torch.outer(positions, frequencies).reshape(shape).expand(*grid, dim // 2))
    return torch.cat(parts, dim=-1).flatten(0, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each [tokens, heads · head_dim]."""
    q, k, v = (tokens.unflatten(-1, (HEADS, HEAD_DIM)).transpose(0, 1) for tokens in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)


def run_block(
    file: ComfyFile, block: str, x: Tensor, e0: Tensor, angles: Tensor, text: Tensor, image: Tensor
) -> Tensor:
    def linear(name: str, inputs: Tensor) -> Tensor:
        return file.linear(f"{block}.{name}")(inputs)

    def normed(name: str, inputs: Tensor) -> Tensor:
        stem, norm = name.rsplit(".", 1)
        return rms_norm(linear(name, inputs), file[f"{block}.{stem}.norm_{norm}.weight"])

    e = (file[f"{block}.modulation"][0] + e0).unbind(0)
    y = torch.addcmul(e[0], layer_norm(x), 1 + e[1])
    q, k = (rotate(normed(f"self_attn.{part}", y).unflatten(-1, (HEADS, HEAD_DIM)), angles).flatten(1) for part in "qk")
    x = x + linear("self_attn.o", attend(q, k, linear("self_attn.v", y))) * e[2]

    y = F.layer_norm(x, (DIM,), file[f"{block}.norm3.weight"], file[f"{block}.norm3.bias"], eps=1e-6)
    q = normed("cross_attn.q", y)
    attended = attend(q, normed("cross_attn.k", text), linear("cross_attn.v", text))
    attended = attended + attend(q, normed("cross_attn.k_img", image), linear("cross_attn.v_img", image))
    x = x + linear("cross_attn.o", attended)

    y = torch.addcmul(e[3], layer_norm(x), 1 + e[4])
    return x + linear("ffn.2", F.gelu(linear("ffn.0", y), approximate="tanh")) * e[5]


@torch.no_grad()
def comfy_prediction(file: ComfyFile, inputs: Mapping[str, Tensor]) -> Tensor:
    """ComfyUI's Wan2.1 image-to-video model."""
    patches = F.conv3d(
        inputs["hidden_states"], file["patch_embedding.weight"], file["patch_embedding.bias"], stride=(1, 2, 2)
    )
    frames, height, width = patches.shape[2:]
    grid = frames, height, width
    x, angles = patches[0].flatten(1).T, rope_angles(grid)

    half = FREQ_DIM // 2
    sinusoid = inputs["timestep"] * 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    time = torch.cat([sinusoid.cos(), sinusoid.sin()]).float()
    e = file.linear("time_embedding.2")(F.silu(file.linear("time_embedding.0")(time)))
    e0 = file.linear("time_projection.1")(F.silu(e)).unflatten(0, (6, DIM))

    text = file.linear("text_embedding.0")(inputs["encoder_hidden_states"][0])
    text = file.linear("text_embedding.2")(F.gelu(text, approximate="tanh"))
    image = inputs["encoder_hidden_states_image"][0]
    image = F.layer_norm(image, image.shape[-1:], file["img_emb.proj.0.weight"], file["img_emb.proj.0.bias"])
    image = file.linear("img_emb.proj.3")(F.gelu(file.linear("img_emb.proj.1")(image)))
    image = F.layer_norm(image, (DIM,), file["img_emb.proj.4.weight"], file["img_emb.proj.4.bias"])

    blocks = {name.split(".")[1] for name in file.tensors if name.startswith("blocks.")}
    for block in sorted(blocks, key=int):
        x = run_block(file, f"blocks.{block}", x, e0, angles, text, image)
    shift, scale = (file["head.modulation"][0] + e).unbind(0)
    x = file.linear("head.head")(torch.addcmul(shift, layer_norm(x), 1 + scale))
    x = x.reshape(*grid, 1, 2, 2, -1)
    return torch.einsum("fhwpqrc->cfphqwr", x).reshape(PREDICTION_SHAPE)


# By diffusers' name of a block's linear, the stem in the file.
STEMS = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def with_dequantized_weights(model: nn.Module, file: ComfyFile) -> nn.Module:
    """`model` with codes · scale of `file` as the weights of its blocks' linears."""
    with torch.no_grad():
        for index, block in enumerate(model.get_submodule("blocks").children()):
            for name, stem in STEMS.items():
                native = f"blocks.{index}.{stem}.weight"
                block.get_parameter(f"{name}.weight").copy_(file[native] * file[f"{native}_scale"])
    return model


@pytest.fixture(scope="module")
def converted(run: Any, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file that a model was converted to, by scheme."""
    root = tmp_path_factory.mktemp("comfyui")

    def convert(scheme: str) -> Path:
        if not (root / scheme).exists():
            model = tiny_model("i2v")
            run("vq-export comfyui", "--model", model, "--scheme", scheme, "-o", root / scheme, "--device", "cpu")
        return root / scheme / f"wan_i2v_{scheme}.safetensors"

    return convert


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_every_tensor_is_in_its_place(
    converted: Any, original: nn.Module, inputs: dict[str, Tensor], scheme: str
) -> None:
    file = ComfyFile(converted(scheme), whole_activations=True)
    reference = prediction(with_dequantized_weights(original, file), inputs)
    assert relative_error(comfy_prediction(file, inputs), reference) < FP32_ROUNDING


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_it_differs_from_the_original_by_rounding_alone(
    converted: Any, original: nn.Module, inputs: dict[str, Tensor], scheme: str
) -> None:
    file = ComfyFile(converted(scheme), whole_activations=False)
    error = relative_error(comfy_prediction(file, inputs), prediction(original, inputs))
    assert FP32_ROUNDING < error < EIGHT_BIT_ROUNDING


@pytest.mark.parametrize(
    ("scheme", "rotate", "largest"),
    [("int8", "none", 0.12), ("int8", "all", 0.12), ("w6a8", "all", 0.1), ("w4a8", "all", 0.3)],
)
def test_smoothed_and_rotated_it_is_still_the_original(
    run: Any,
    tiny_model: Any,
    original: nn.Module,
    smoothed: Path,
    inputs: dict[str, Tensor],
    tmp_path: Path,
    scheme: str,
    rotate: str,
    largest: float,
) -> None:
    model, stats = tiny_model("i2v"), smoothed.parent / "stats"
    run("vq-algos smooth", "--model", model, "--stats", stats, "--target", "comfyui", "-o", tmp_path / "smoothed")
    how = ("--scheme", scheme, "--rotate", rotate)
    run("vq-algos quantize", "--weights", tmp_path / "smoothed", *how, "-o", tmp_path / "qparams")
    folders = ("--weights", tmp_path / "smoothed", "--qparams", tmp_path / "qparams")
    run("vq-export comfyui", *folders, "-o", tmp_path / "out")
    file = ComfyFile(tmp_path / "out" / f"wan_i2v_{scheme}.safetensors", whole_activations=False)
    error = relative_error(comfy_prediction(file, inputs), prediction(original, inputs))
    assert FP32_ROUNDING < error < largest
