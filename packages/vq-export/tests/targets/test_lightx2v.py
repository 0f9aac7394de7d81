"""The files that LightX2V loads: names, dtypes, shapes and values, held against its own table, not against ours."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vq_core.model.source import open_source
from vq_core.store.manifest import FILE_NAME

DIM, FFN, TEXT, FREQ, IMAGE = 64, 160, 32, 16, 48
INDEX = "diffusion_pytorch_model.safetensors.index.json"
RUN_CONFIGS = ("vllm", "sgl", "torchao", "q8f")

# What LightX2V reads, by its names: diffusers' name → (native name, shape). In a block, `N` stands for its number.
OUTSIDE: dict[str, tuple[str, tuple[int, ...]]] = {
    "condition_embedder.text_embedder.linear_1.weight": ("text_embedding.0.weight", (DIM, TEXT)),
    "condition_embedder.text_embedder.linear_1.bias": ("text_embedding.0.bias", (DIM,)),
    "condition_embedder.text_embedder.linear_2.weight": ("text_embedding.2.weight", (DIM, DIM)),
    "condition_embedder.text_embedder.linear_2.bias": ("text_embedding.2.bias", (DIM,)),
    "condition_embedder.time_embedder.linear_1.weight": ("time_embedding.0.weight", (DIM, FREQ)),
    "condition_embedder.time_embedder.linear_1.bias": ("time_embedding.0.bias", (DIM,)),
    "condition_embedder.time_embedder.linear_2.weight": ("time_embedding.2.weight", (DIM, DIM)),
    "condition_embedder.time_embedder.linear_2.bias": ("time_embedding.2.bias", (DIM,)),
    "condition_embedder.time_proj.weight": ("time_projection.1.weight", (6 * DIM, DIM)),
    "condition_embedder.time_proj.bias": ("time_projection.1.bias", (6 * DIM,)),
    "patch_embedding.bias": ("patch_embedding.bias", (DIM,)),
    "scale_shift_table": ("head.modulation", (1, 2, DIM)),
}
OUTSIDE_I2V: dict[str, tuple[str, tuple[int, ...]]] = {
    "condition_embedder.image_embedder.norm1.weight": ("img_emb.proj.0.weight", (IMAGE,)),
    "condition_embedder.image_embedder.norm1.bias": ("img_emb.proj.0.bias", (IMAGE,)),
    "condition_embedder.image_embedder.ff.net.0.proj.weight": ("img_emb.proj.1.weight", (IMAGE, IMAGE)),
    "condition_embedder.image_embedder.ff.net.0.proj.bias": ("img_emb.proj.1.bias", (IMAGE,)),
    "condition_embedder.image_embedder.ff.net.2.weight": ("img_emb.proj.3.weight", (DIM, IMAGE)),
    "condition_embedder.image_embedder.ff.net.2.bias": ("img_emb.proj.3.bias", (DIM,)),
    "condition_embedder.image_embedder.norm2.weight": ("img_emb.proj.4.weight", (DIM,)),
    "condition_embedder.image_embedder.norm2.bias": ("img_emb.proj.4.bias", (DIM,)),
}
BLOCK: dict[str, tuple[str, tuple[int, ...]]] = {
    "scale_shift_table": ("modulation", (1, 6, DIM)),
    "attn1.norm_q.weight": ("self_attn.norm_q.weight", (DIM,)),
    "attn1.norm_k.weight": ("self_attn.norm_k.weight", (DIM,)),
    "attn2.norm_q.weight": ("cross_attn.norm_q.weight", (DIM,)),
    "attn2.norm_k.weight": ("cross_attn.norm_k.weight", (DIM,)),
    "norm2.weight": ("norm3.weight", (DIM,)),
    "norm2.bias": ("norm3.bias", (DIM,)),
}
BLOCK_I2V: dict[str, tuple[str, tuple[int, ...]]] = {
    "attn2.norm_added_k.weight": ("cross_attn.norm_k_img.weight", (DIM,)),
}
QUANTIZED = {
    "attn1.to_q": ("self_attn.q", (DIM, DIM)),
    "attn1.to_k": ("self_attn.k", (DIM, DIM)),
    "attn1.to_v": ("self_attn.v", (DIM, DIM)),
    "attn1.to_out.0": ("self_attn.o", (DIM, DIM)),
    "attn2.to_q": ("cross_attn.q", (DIM, DIM)),
    "attn2.to_k": ("cross_attn.k", (DIM, DIM)),
    "attn2.to_v": ("cross_attn.v", (DIM, DIM)),
    "attn2.to_out.0": ("cross_attn.o", (DIM, DIM)),
    "ffn.net.0.proj": ("ffn.0", (FFN, DIM)),
    "ffn.net.2": ("ffn.2", (DIM, FFN)),
}
QUANTIZED_I2V = {
    "attn2.add_k_proj": ("cross_attn.k_img", (DIM, DIM)),
    "attn2.add_v_proj": ("cross_attn.v_img", (DIM, DIM)),
}
CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
CHANNELS = {"t2v": (16, 16), "i2v": (36, 16), "i2v-2.2": (36, 16), "ti2v-5b": (48, 48)}

Spec = tuple[torch.dtype, tuple[int, ...]]


def expected_files(kind: str, scheme: str, gains: bool) -> dict[str, dict[str, Spec]]:
    """By file and native name, dtype and shape of every tensor of one transformer."""
    in_channels, out_channels = CHANNELS[kind]
    plain, quantized, outside = BLOCK, QUANTIZED, OUTSIDE
    if kind == "i2v":
        plain, quantized, outside = BLOCK | BLOCK_I2V, QUANTIZED | QUANTIZED_I2V, OUTSIDE | OUTSIDE_I2V
    # Folding multiplies in fp32; what it does not touch keeps the source's bfloat16.
    folded = {"norm3.weight", "norm3.bias", "self_attn.v.bias", "cross_attn.v.bias", "cross_attn.v_img.bias"}
    folded |= {"text_embedding.2.weight", "text_embedding.2.bias", "img_emb.proj.4.weight", "img_emb.proj.4.bias"}

    def dtype(name: str) -> torch.dtype:
        return torch.float32 if gains and name in folded else torch.bfloat16

    files: dict[str, dict[str, Spec]] = {}
    for block in range(2):
        names = {native: (dtype(native), shape) for native, shape in plain.values()}
        for stem, (rows, columns) in quantized.values():
            names[f"{stem}.weight"] = (CODES[scheme], (rows, columns))
            names[f"{stem}.weight_scale"] = (torch.float32, (rows, 1))
            names[f"{stem}.bias"] = (dtype(f"{stem}.bias"), (rows,))
        if gains:
            for norm in ("affine_norm1", "affine_norm3"):
                names |= {f"{norm}.{part}": (torch.float32, (DIM,)) for part in ("weight", "bias")}
        files[f"block_{block}.safetensors"] = {f"blocks.{block}.{name}": spec for name, spec in names.items()}
    files["non_block.safetensors"] = {native: (dtype(native), shape) for native, shape in outside.values()} | {
        "patch_embedding.weight": (torch.bfloat16, (DIM, in_channels, 1, 2, 2)),
        "head.head.weight": (torch.bfloat16, (4 * out_channels, DIM)),
        "head.head.bias": (torch.bfloat16, (4 * out_channels,)),
    }
    return files


def native_of(name: str) -> str:
    """Native name of a diffusers tensor, by the tables of this file."""
    if not name.startswith("blocks."):
        outside = {before: after for before, (after, _) in (OUTSIDE | OUTSIDE_I2V).items()}
        return outside.get(name, name.replace("proj_out.", "head.head."))
    _, block, rest = name.split(".", 2)
    if rest in BLOCK | BLOCK_I2V:
        return f"blocks.{block}.{(BLOCK | BLOCK_I2V)[rest][0]}"
    stem, part = rest.rsplit(".", 1)
    return f"blocks.{block}.{(QUANTIZED | QUANTIZED_I2V)[stem][0]}.{part}"


def specs(folder: Path) -> dict[str, dict[str, Spec]]:
    return {
        path.name: {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in load_file(path).items()}
        for path in sorted(folder.glob("*.safetensors"))
    }


def tensors_in(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def dequantized(tensors: dict[str, Tensor], stem: str) -> Tensor:
    return tensors[f"{stem}.weight"].double() * tensors[f"{stem}.weight_scale"].double()


ALL = [("i2v-smoothed", "i2v", True), *((kind, kind, False) for kind in CHANNELS)]


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize(("made", "kind", "gains"), ALL, ids=[case[0] for case in ALL])
def test_tensors_and_files_are_those_that_lightx2v_reads(
    checkpoints: dict[str, Path], made: str, kind: str, gains: bool, scheme: str
) -> None:
    root = checkpoints[f"{scheme}-smoothed" if made == "i2v-smoothed" else f"{scheme}-{kind}"]
    folders = ["high_noise_model", "low_noise_model"] if kind == "i2v-2.2" else ["."]
    expected = expected_files(kind, scheme, gains)
    files = {FILE_NAME, "config.json", "run_lightx2v.sh"}
    files |= {f"run_configs/{scheme}-{backend}.json" for backend in RUN_CONFIGS}
    if kind != "i2v-2.2":
        old = RUN_CONFIGS if scheme == "int8" else ("vllm", "sgl", "q8f")
        files |= {f"run_configs/old/{scheme}-{backend}.json" for backend in old}
    for folder in folders:
        assert specs(root / folder) == expected
        index = json.loads((root / folder / INDEX).read_text())
        assert index["weight_map"] == {name: file for file, names in expected.items() for name in names}
        tensors = tensors_in(root / folder).values()
        assert index["metadata"] == {"total_size": sum(tensor.numel() * tensor.element_size() for tensor in tensors)}
        files |= {(Path(folder) / file).as_posix() for file in (*expected, INDEX)}
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert found == files
    assert os.access(root / "run_lightx2v.sh", os.X_OK)


@pytest.mark.parametrize(
    ("kind", "model_type", "in_dim", "out_dim"),
    [("t2v", "t2v", 16, 16), ("i2v", "i2v", 36, 16), ("i2v-2.2", "i2v", 36, 16), ("ti2v-5b", "ti2v", 48, 48)],
)
def test_config_has_the_native_keys(
    checkpoints: dict[str, Path], kind: str, model_type: str, in_dim: int, out_dim: int
) -> None:
    config = json.loads((checkpoints[f"int8-{kind}"] / "config.json").read_text())
    assert config == {
        "_class_name": "WanModel",
        "model_type": model_type,
        "dim": 64,
        "ffn_dim": 160,
        "freq_dim": 16,
        "num_heads": 4,
        "num_layers": 2,
        "in_dim": in_dim,
        "out_dim": out_dim,
        "text_dim": 32,
        "text_len": 512,
        "patch_size": [1, 2, 2],
        "qk_norm": True,
        "cross_attn_norm": True,
        "eps": 1e-6,
        "window_size": [-1, -1],
    }


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_quant_method_is_said_where_there_are_gains_and_only_there(checkpoints: dict[str, Path], scheme: str) -> None:
    for name, method in ((f"{scheme}-smoothed", "advanced_ptq"), (f"{scheme}-i2v", None)):
        configs = [checkpoints[name] / "config.json", *(checkpoints[name] / "run_configs").rglob("*.json")]
        assert {json.loads(path.read_text()).get("quant_method") for path in configs} == {method}


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_a_gain_is_the_multiplier_of_scale_and_of_shift(
    checkpoints: dict[str, Path], smoothed_i2v: dict[str, Any], scheme: str
) -> None:
    tensors = tensors_in(checkpoints[f"{scheme}-smoothed"])
    for block in range(2):
        for norm, group in (("affine_norm1", "attn1.qkv"), ("affine_norm3", "ffn.up")):
            gain = smoothed_i2v[scheme].gains["transformer"][f"blocks.{block}.{group}"]
            for part in ("weight", "bias"):
                assert torch.equal(tensors[f"blocks.{block}.{norm}.{part}"], gain)
                assert torch.equal(gain.bfloat16().float(), gain)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_export_of_artifacts_is_renaming(
    checkpoints: dict[str, Path], smoothed_i2v: dict[str, Any], scheme: str
) -> None:
    tensors = tensors_in(checkpoints[f"{scheme}-smoothed"])
    weights = tensors_in(smoothed_i2v[scheme].weights / "transformer")
    qparams = tensors_in(smoothed_i2v[scheme].qparams / "transformer")
    linears = {name.removesuffix(".codes") for name in qparams if name.endswith(".codes")}
    assert len(linears) == 24
    for linear in linears:
        native = native_of(f"{linear}.weight")
        assert torch.equal(tensors[native].view(torch.uint8), qparams[f"{linear}.codes"].view(torch.uint8))
        assert torch.equal(tensors[f"{native}_scale"], qparams[f"{linear}.scale"])
    for name, tensor in weights.items():
        if name.removesuffix(".weight") not in linears and not name.endswith(".gain"):
            assert torch.equal(tensors[native_of(name)], tensor)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["smoothed", "i2v"])
def test_only_the_rounding_of_the_weights_changes_the_function(
    checkpoints: dict[str, Path], models: dict[str, Path], smoothed_i2v: dict[str, Any], scheme: str, made: str
) -> None:
    """(X·g) @ Ŵ'ᵀ against X @ Wᵀ of the source in fp64, for every linear, within what rounding Ŵ' can amount to."""
    tensors = tensors_in(checkpoints[f"{scheme}-{made}"])
    source = open_source(str(models["i2v"])).components["transformer"]
    gains = smoothed_i2v[scheme].gains["transformer"] if made == "smoothed" else {}
    generator = torch.Generator().manual_seed(3)
    for group in source.topology.groups:
        x = torch.randn(32, group.in_features, generator=generator, dtype=torch.float64)
        gain = gains.get(group.name, torch.ones(group.in_features)).double()
        for linear in group.reads:
            stem = native_of(f"{linear}.weight").removesuffix(".weight")
            # As a producer, the linear has its rows multiplied by its consumer's gain.
            row_gain = _row_gain(source.topology.groups, gains, linear)
            weight = source.plain([f"{linear}.weight"])[f"{linear}.weight"].double() * row_gain
            y, reference = (x * gain) @ dequantized(tensors, stem).T, x @ weight.T
            scale = tensors[f"{stem}.weight_scale"].double()
            # INT8: half a step. E4M3: half of the 2⁻³ between two codes, and half of the smallest step 2⁻⁹.
            folded = weight / gain
            step = 0.5 * scale if scheme == "int8" else (folded.abs() / 16).maximum(scale * 2.0**-10)
            assert ((y - reference).abs() <= (x * gain).abs() @ (step * (1 + 1e-5)).expand_as(folded).T).all(), linear
            assert float((y - reference).norm() / reference.norm()) < 0.05, linear


def _row_gain(groups: Any, gains: dict[str, Tensor], linear: str) -> Tensor:
    for group in groups:
        if linear in getattr(group.sink, "linears", ()) and group.name in gains:
            return gains[group.name].double()[:, None]
    return torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_scales_survive_the_cast_to_bfloat16_and_codes_are_symmetric(checkpoints: dict[str, Path], scheme: str) -> None:
    for made in ("smoothed", *CHANNELS):
        for path in checkpoints[f"{scheme}-{made}"].rglob("*.safetensors"):
            for name, tensor in load_file(path).items():
                if name.endswith(".weight_scale"):
                    assert torch.equal(tensor.bfloat16().float(), tensor)
                    assert bool((tensor > 0).all())
                elif tensor.dtype == CODES[scheme]:
                    largest = tensor.float().abs().amax(dim=1)
                    assert bool((largest <= (127 if scheme == "int8" else 448)).all())
                    assert bool((largest >= (126 if scheme == "int8" else 416)).all())  # the range is used


def test_experts_are_not_mixed_up(checkpoints: dict[str, Path], models: dict[str, Path]) -> None:
    source = open_source(str(models["i2v-2.2"]))
    folders = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
    for component, folder in folders.items():
        before = source.components[component].plain(["patch_embedding.weight"])["patch_embedding.weight"]
        assert torch.equal(tensors_in(checkpoints["int8-i2v-2.2"] / folder)["patch_embedding.weight"], before)
