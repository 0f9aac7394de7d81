"""The encoders' files, run by the architecture of the original Wan files, against transformers' own encoders.

The modules here are the definitions of Wan's T5 encoder and CLIP image encoder in plain torch, fp32, with their names
of tensors; the files are loaded into them strictly, as LightX2V does. Errors are ‖Δ‖ / ‖reference‖.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.comparing import relative_error
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

FP32_ROUNDING = 1e-5
ROUNDING = {"int8": 0.05, "fp8": 0.15}  # of the weights, and of the rest to half precision; a mistake gives about 1

HEAD = 1024
STEMS = ("models_t5_umt5-xxl-enc", "models_clip_open-clip-xlm-roberta-large-vit-huge-14")  # of the files
T5_SIZES: dict[str, Any] = {"vocab_size": 50, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 3, "num_heads": 4}
CLIP_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 7, "hidden_act": "gelu",
}  # fmt: skip


class T5Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class T5Attention(nn.Module):
    def __init__(self, dim: int, dim_attn: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, dim_attn, bias=False) for _ in range(3))
        self.o = nn.Linear(dim_attn, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)) for part in (self.q, self.k, self.v))
        weights = (torch.einsum("binc,bjnc->bnij", q, k) + bias).softmax(-1)  # T5 does not scale
        return self.o(torch.einsum("bnij,bjnc->binc", weights, v).flatten(2))


class T5FeedForward(nn.Module):
    def __init__(self, dim: int, dim_ffn: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(dim, dim_ffn, bias=False), nn.GELU(approximate="tanh"))
        self.fc1 = nn.Linear(dim, dim_ffn, bias=False)
        self.fc2 = nn.Linear(dim_ffn, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * self.gate(x))


class T5Positions(nn.Module):
    def __init__(self, buckets: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets, heads)

    def forward(self, length: int) -> Tensor:
        distance = torch.arange(length)[None] - torch.arange(length)[:, None]
        half = self.embedding.num_embeddings // 2
        exact = half // 2
        far = exact + (torch.log(distance.abs().clamp(min=1) / exact) / math.log(128 / exact) * (half - exact)).long()
        bucket = torch.where(distance.abs() < exact, distance.abs(), far.clamp(max=half - 1))
        return self.embedding(bucket + half * (distance > 0)).permute(2, 0, 1)[None]


class T5Block(nn.Module):
    def __init__(self, dim: int, dim_attn: int, dim_ffn: int, heads: int, buckets: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = T5Norm(dim), T5Norm(dim)
        self.attn = T5Attention(dim, dim_attn, heads)
        self.ffn = T5FeedForward(dim, dim_ffn)
        self.pos_embedding = T5Positions(buckets, heads)

    def forward(self, x: Tensor, unseen: Tensor) -> Tensor:
        bias = self.pos_embedding(x.shape[1]).masked_fill(unseen[:, None, None], torch.finfo(torch.float32).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class T5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        dim, heads = T5_SIZES["d_model"], T5_SIZES["num_heads"]
        self.token_embedding = nn.Embedding(T5_SIZES["vocab_size"], dim)
        blocks = [
            T5Block(dim, heads * T5_SIZES["d_kv"], T5_SIZES["d_ff"], heads, 32) for _ in range(T5_SIZES["num_layers"])
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = T5Norm(dim)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.token_embedding(ids)
        for block in self.blocks:
            x = block(x, mask == 0)
        return self.norm(x)


class ClipAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ClipBlock(nn.Module):
    def __init__(self, dim: int, dim_mlp: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = ClipAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, dim_mlp), nn.GELU(), nn.Linear(dim_mlp, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ClipVisual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        dim, patch = CLIP_SIZES["hidden_size"], CLIP_SIZES["patch_size"]
        tokens = (CLIP_SIZES["image_size"] // patch) ** 2 + 1
        self.patch_embedding = nn.Conv2d(3, dim, patch, stride=patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, dim))
        self.pre_norm, self.post_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        layers, heads = CLIP_SIZES["num_hidden_layers"], CLIP_SIZES["num_attention_heads"]
        self.transformer = nn.Sequential(
            *[ClipBlock(dim, CLIP_SIZES["intermediate_size"], heads) for _ in range(layers)]
        )
        self.head = nn.Parameter(torch.empty(dim, HEAD))

    def forward(self, pixels: Tensor) -> Tensor:
        """The output of the last layer but one, which Wan reads."""
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        x = self.pre_norm(x)
        for block in list(self.transformer)[:-1]:
            x = block(x)
        return x


class Clip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = ClipVisual()
        self.log_scale = nn.Parameter(torch.empty(()))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random encoders in a pipeline folder, their weights bfloat16 and float16 values, so that only linears round."""
    root = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    models: dict[str, Any] = {
        "text_encoder": UMT5EncoderModel(UMT5Config(**T5_SIZES, feed_forward_proj="gated-gelu")),
        "image_encoder": CLIPVisionModel(CLIPVisionConfig(**CLIP_SIZES)),
    }
    for folder, model in models.items():
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn_like(parameter)
                # Norms around one; else of a size that lets every part of the encoder count.
                values = 1 + 0.2 * noise if "norm" in name and "weight" in name else 0.2 * noise
                parameter.copy_((values * 0.75).bfloat16())
        model.save_pretrained(root / folder)
    index = {"text_encoder": ["transformers", "UMT5EncoderModel"], "image_encoder": ["transformers", "CLIPVisionModel"]}
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def ids_and_mask() -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 50, (2, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    return ids, mask


def pixels() -> Tensor:
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def text_reference(pipeline: Path) -> Tensor:
    ids, mask = ids_and_mask()
    model = UMT5EncoderModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32).eval()
    return model(ids, attention_mask=mask).last_hidden_state


@torch.no_grad()
def image_reference(pipeline: Path) -> Tensor:
    model = CLIPVisionModel.from_pretrained(pipeline / "image_encoder", dtype=torch.float32).eval()
    return model(pixels(), output_hidden_states=True).hidden_states[-2]


def dequantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By native name in fp32, without the scales that went into the weights."""
    return {
        name: tensor.float() * tensors.get(f"{name}_scale", torch.ones(()))
        for name, tensor in tensors.items()
        if not name.endswith("_scale") or name == "log_scale"
    }


@torch.no_grad()
def output(module: nn.Module, state: dict[str, Tensor], *inputs: Tensor) -> Tensor:
    module.load_state_dict(state, strict=True)
    result: Tensor = module.eval()(*inputs)
    return result


def errors(folder: Path, scheme: str, pipeline: Path) -> tuple[float, float]:
    """Errors of the text and the image encoder that are loaded from the files in `folder`."""
    t5, clip = (load_file(folder / f"{stem}-{scheme}.safetensors") for stem in STEMS)
    _, mask = ids_and_mask()
    seen = mask.bool()
    text = output(T5(), dequantized(t5), *ids_and_mask())
    image = output(Clip(), dequantized(clip), pixels())
    return (
        relative_error(text[seen], text_reference(pipeline)[seen]),
        relative_error(image, image_reference(pipeline)),
    )


def native_state(pipeline: Path, module: nn.Module) -> dict[str, Tensor]:
    """The state of `module` from transformers' files, by the names of this file's tables alone."""
    found: dict[str, Tensor] = {}
    if isinstance(module, T5):
        tensors = load_file(pipeline / "text_encoder" / "model.safetensors")
        found = {"token_embedding.weight": tensors["shared.weight"]}
        found["norm.weight"] = tensors["encoder.final_layer_norm.weight"]
        for block in range(3):
            theirs, ours = f"encoder.block.{block}.layer", f"blocks.{block}"
            for part in "qkvo":
                found[f"{ours}.attn.{part}.weight"] = tensors[f"{theirs}.0.SelfAttention.{part}.weight"]
            for old, new in (("wi_0", "gate.0"), ("wi_1", "fc1"), ("wo", "fc2")):
                found[f"{ours}.ffn.{new}.weight"] = tensors[f"{theirs}.1.DenseReluDense.{old}.weight"]
            found[f"{ours}.norm1.weight"] = tensors[f"{theirs}.0.layer_norm.weight"]
            found[f"{ours}.norm2.weight"] = tensors[f"{theirs}.1.layer_norm.weight"]
            found[f"{ours}.pos_embedding.embedding.weight"] = tensors[
                f"{theirs}.0.SelfAttention.relative_attention_bias.weight"
            ]
        return found
    tensors = load_file(pipeline / "image_encoder" / "model.safetensors")
    tensors = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    found["log_scale"], found["visual.head"] = torch.tensor(2.5), torch.randn(32, HEAD)
    found["visual.cls_embedding"] = tensors["embeddings.class_embedding"][None, None]
    found["visual.pos_embedding"] = tensors["embeddings.position_embedding.weight"][None]
    found["visual.patch_embedding.weight"] = tensors["embeddings.patch_embedding.weight"]
    for part in ("weight", "bias"):
        found[f"visual.pre_norm.{part}"] = tensors[f"pre_layrnorm.{part}"]
        found[f"visual.post_norm.{part}"] = tensors[f"post_layernorm.{part}"]
        for layer in range(3):
            theirs, ours = f"encoder.layers.{layer}", f"visual.transformer.{layer}"
            qkv = [tensors[f"{theirs}.self_attn.{it}_proj.{part}"] for it in "qkv"]
            found[f"{ours}.attn.to_qkv.{part}"] = torch.cat(qkv)
            for old, new in (
                ("self_attn.out_proj", "attn.proj"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.2"),
                ("layer_norm1", "norm1"), ("layer_norm2", "norm2"),
            ):  # fmt: skip
                found[f"{ours}.{new}.{part}"] = tensors[f"{theirs}.{old}.{part}"]
    return found


def test_the_references_are_transformers_encoders(pipeline: Path) -> None:
    """Unquantized, by this file's own table: so the modules here are the right ones to load the files into."""
    t5, clip = T5(), Clip()
    _, mask = ids_and_mask()
    text = output(t5, native_state(pipeline, t5), *ids_and_mask())[mask.bool()]
    image = output(clip, native_state(pipeline, clip), pixels())
    assert relative_error(text, text_reference(pipeline)[mask.bool()]) < FP32_ROUNDING
    assert relative_error(image, image_reference(pipeline)) < FP32_ROUNDING


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_the_files_differ_from_transformers_by_the_rounding_of_weights_alone(
    run: Any, pipeline: Path, scheme: str, tmp_path: Path
) -> None:
    run("vq-export encoders", "--model", pipeline, "--scheme", scheme, "-o", tmp_path / "out")
    for error in errors(tmp_path / "out", scheme, pipeline):
        print(f"{error:.4f}")
        assert FP32_ROUNDING < error < ROUNDING[scheme]


def test_weights_on_the_grid_of_int8_give_transformers_output_exactly(run: Any, pipeline: Path, tmp_path: Path) -> None:
    """Every linear's weights are codes times a power of two, 127 in every row, and half precision holds the rest."""
    root = tmp_path / "pipeline"
    shutil.copytree(pipeline, root)
    for path in root.rglob("*.safetensors"):
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if tensor.ndim == 2 and "embed" not in name and "shared" not in name and "relative" not in name:
                codes = (tensor * 100).round().clamp(-127, 127)
                codes[:, 0] = 127
                tensors[name] = codes * 2.0**-7
        save_file(tensors, path, metadata={"format": "pt"})
    run("vq-export encoders", "--model", root, "--scheme", "int8", "-o", tmp_path / "out")
    for error in errors(tmp_path / "out", "int8", root):
        assert error < FP32_ROUNDING


def test_the_original_files_give_the_same_tensors(run: Any, pipeline: Path, tmp_path: Path) -> None:
    states = {"t5": native_state(pipeline, T5()), "clip": native_state(pipeline, Clip())}
    states["clip"] |= {"textual.token_embedding.weight": torch.randn(7, 4), "textual.head.0.bias": torch.randn(3)}
    for key, state in states.items():
        torch.save(state, tmp_path / f"{key}.pth")
    files = ("--t5", tmp_path / "t5.pth", "--clip", tmp_path / "clip.pth")
    run("vq-export encoders", *files, "--scheme", "int8", "-o", tmp_path / "native")
    run("vq-export encoders", "--model", pipeline, "--scheme", "int8", "-o", tmp_path / "transformers")
    for stem in STEMS:
        native, theirs = (load_file(tmp_path / it / f"{stem}-int8.safetensors") for it in ("native", "transformers"))
        assert native.keys() == theirs.keys()
        for name, tensor in native.items():
            if name not in ("log_scale", "visual.head"):
                assert torch.equal(tensor, theirs[name]), name
    clip = load_file(tmp_path / "native" / f"{STEMS[1]}-int8.safetensors")
    assert clip["log_scale"] == 2.5
    assert torch.equal(clip["visual.head"], states["clip"]["visual.head"].half())
