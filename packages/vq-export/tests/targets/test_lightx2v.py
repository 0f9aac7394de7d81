"""The files that LightX2V loads: names, dtypes, shapes and values, held against its own table, not against ours."""

import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.store.manifest import FILE_NAME
from vq_export.targets import target_named

DIM = 64
INDEX = "diffusion_pytorch_model.safetensors.index.json"
RUN_CONFIGS = ("vllm", "sgl", "torchao", "q8f")
CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
KINDS = ("t2v", "i2v", "i2v-2.2", "ti2v-5b")
# Folding multiplies in fp32; what it does not touch, and every bias of a quantized linear, is bfloat16.
FOLDED = {"norm3.weight", "norm3.bias"}
FOLDED |= {"text_embedding.2.weight", "text_embedding.2.bias", "img_emb.proj.4.weight", "img_emb.proj.4.bias"}

Paths = dict[str, Path]
Spec = tuple[torch.dtype, tuple[int, ...]]


def expected_files(names: Any, scheme: str, gains: bool) -> dict[str, dict[str, Spec]]:
    """By file and native name, dtype and shape of every tensor of one transformer."""
    files: dict[str, dict[str, Spec]] = {f"{it}.safetensors": {} for it in ("block_0", "block_1", "non_block")}

    def put(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        shard = f"block_{name.split('.')[1]}" if name.startswith("blocks.") else "non_block"
        files[f"{shard}.safetensors"][name] = (dtype, shape)

    for name, shape in names.plain.values():
        put(name, torch.float32 if gains and re.sub(r"^blocks\.\d\.", "", name) in FOLDED else torch.bfloat16, shape)
    for stem, shape in names.quantized.values():
        put(f"{stem}.weight", CODES[scheme], shape)
        put(f"{stem}.weight_scale", torch.float32, (shape[0], 1))
    for block, norm, part in product((0, 1), (1, 3), ("weight", "bias")) if gains else ():
        put(f"blocks.{block}.affine_norm{norm}.{part}", torch.float32, (DIM,))
    return files


def specs(folder: Path) -> dict[str, dict[str, Spec]]:
    return {
        path.name: {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in load_file(path).items()}
        for path in sorted(folder.glob("*.safetensors"))
    }


def tensors_in(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def dequantized(tensors: dict[str, Tensor], stem: str) -> Tensor:
    return tensors[f"{stem}.weight"].double() * tensors[f"{stem}.weight_scale"].double()


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["smoothed", *KINDS])
def test_tensors_and_files_are_those_that_lightx2v_reads(
    checkpoints: Paths, native_names: Any, made: str, scheme: str
) -> None:
    root, gains = checkpoints[f"{scheme}-{made}"], made == "smoothed"
    kind = "i2v" if gains else made
    folders = ["high_noise_model", "low_noise_model"] if kind == "i2v-2.2" else ["."]
    expected = expected_files(native_names(kind), scheme, gains)
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
def test_config_has_the_native_keys(checkpoints: Paths, kind: str, model_type: str, in_dim: int, out_dim: int) -> None:
    config = json.loads((checkpoints[f"int8-{kind}"] / "config.json").read_text())
    assert config == {
        "_class_name": "WanModel", "model_type": model_type, "in_dim": in_dim, "out_dim": out_dim,
        "dim": 64, "ffn_dim": 160, "freq_dim": 16, "num_heads": 4, "num_layers": 2, "text_dim": 32, "text_len": 512,
        "patch_size": [1, 2, 2], "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6, "window_size": [-1, -1],
    }  # fmt: skip


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_a_gain_is_the_multiplier_of_scale_and_of_shift(
    checkpoints: Paths, smoothed_i2v: dict[str, Any], scheme: str
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
    checkpoints: Paths, smoothed_i2v: dict[str, Any], native_names: Any, scheme: str
) -> None:
    tensors, names = tensors_in(checkpoints[f"{scheme}-smoothed"]), native_names("i2v")
    weights = tensors_in(smoothed_i2v[scheme].weights / "transformer")
    qparams = tensors_in(smoothed_i2v[scheme].qparams / "transformer")
    assert len(names.quantized) == 24
    for linear, (native, _) in names.quantized.items():
        codes = tensors[f"{native}.weight"].view(torch.uint8)
        assert torch.equal(codes, qparams[f"{linear}.codes"].view(torch.uint8))
        assert torch.equal(tensors[f"{native}.weight_scale"], qparams[f"{linear}.scale"])
    for name, (native, _) in names.plain.items():
        if name.removesuffix(".bias") in names.quantized:
            assert torch.equal(tensors[native], weights[name].bfloat16())
        else:
            assert torch.equal(tensors[native], weights[name])


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["smoothed", "i2v"])
def test_only_the_rounding_of_the_weights_changes_the_function(
    checkpoints: Paths, models: Paths, smoothed_i2v: dict[str, Any], native_names: Any, scheme: str, made: str
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
            stem, _ = native_names("i2v").quantized[linear]
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


def test_codes_that_need_a_rotation_are_refused(models: Paths, make_artifacts: Any, tmp_path: Path) -> None:
    made = make_artifacts(models["t2v"], "int8", rotation=16)
    with pytest.raises(VqError, match="^LightX2V does not rotate .* quantize with `--rotate none`, or export for com"):
        target_named("lightx2v").export(made.opened(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_few_bits_are_refused(models: Any, make_artifacts: Any, tmp_path: Path) -> None:
    made = make_artifacts(models["t2v"], "w4a8", rotation=16, octaves=0).opened()
    with pytest.raises(VqError, match=r"^LightX2V does not run w4a8: take int8, or smooth .*native or comfyui"):
        target_named("lightx2v").export(made, tmp_path / "out")
    assert not list(tmp_path.iterdir())
