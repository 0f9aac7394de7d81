"""Tiny Wan models of random weights on disk, and statistics of random activations with outlier channels."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs, sampled
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_algos.smoothing.smoothing_problem import SmoothingProblem
from vq_core.artifacts.stats import BRANCHES, ActivationStats, Split, Tokens, open_stats, stats_header
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.families.wan import topology
from vq_core.model.source import Source, open_source
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import INT8, NumberFormat, QuantScheme, scheme_named
from vq_core.sampling.schedule import BUCKETS
from vq_core.store.writer import create_artifact
from vq_core.topology import shard_of

Config = dict[str, Any]
Activations = dict[tuple[str, str], Tensor]
MakeModel = Callable[..., Path]
MakeStats = Callable[..., Path]
MakeSmoothed = Callable[..., Path]
MakeInputs = Callable[..., LinearInputs]
MakeTokenStats = Callable[[Path], ActivationStats]
MakeOffsetStats = Callable[..., ActivationStats]

T2V: Config = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 24,
    "freq_dim": 16,
    "ffn_dim": 80,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
    "rope_max_seq_len": 32,
}
I2V: Config = T2V | {"in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 32}
TOKENS = 24
MEAN = 3.0  # of every channel, where the others are ±1


@pytest.fixture
def i2v_config() -> Config:
    """Wan2.1 image-to-video: the layout with every kind of group."""
    return dict(I2V)


@pytest.fixture
def t2v_config() -> Config:
    """Text-to-video."""
    return dict(T2V)


def _random_tensors(config: Mapping[str, Any], seed: int) -> dict[str, Tensor]:
    """Every tensor of the model in bf16, linears of unit gain, a few rows and columns far larger than the rest."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in topology(config).tensors.items():
        tensor = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
        if len(shape) == 2:
            tensor[:, :2] *= 8
            tensor[-1] *= 4
        tensors[name] = (tensor + 1 if ".norm" in name and name.endswith("weight") else tensor).bfloat16()
    return tensors


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Write a model to `tmp_path/name`: a transformer folder, or with two configurations a pipeline of two experts.

    `edit` replaces tensors of the first transformer.
    """

    def make(*configs: Config, name: str = "model", seed: int = 0, edit: Mapping[str, Tensor] | None = None) -> Path:
        folder = tmp_path / name
        parts = ["."] if len(configs) == 1 else ["transformer", "transformer_2"]
        for index, (part, config) in enumerate(zip(parts, configs, strict=True)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / "config.json").write_text(json.dumps(config))
            tensors = _random_tensors(config, seed + index) | (dict(edit or {}) if index == 0 else {})
            save_file(tensors, folder / part / "diffusion_pytorch_model.safetensors")
        if len(configs) == 2:
            listed = {part: ["diffusers", "WanTransformer3DModel"] for part in parts}
            (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **listed}))
        return folder

    return make


@pytest.fixture
def i2v_model(make_model: MakeModel, i2v_config: Config) -> Path:
    """An image-to-video transformer folder."""
    return make_model(i2v_config)


@pytest.fixture
def make_stats(tmp_path: Path) -> MakeStats:
    """Write statistics for a model: of `activations` (by component and group), else of random ones."""

    def make(model: Path, activations: Activations | None = None, name: str = "stats", **settings: object) -> Path:
        source = open_source(str(model))
        activations = random_activations(source) if activations is None else activations
        output = tmp_path / name
        with create_artifact(output, stats_header("test", source, {"prompts": 1} | settings)) as writer:
            for component, checkpoint in source.components.items():
                files: dict[str, dict[str, Tensor]] = {}
                for group in checkpoint.topology.groups:
                    tensors = _statistics(group.name, activations[component, group.name])
                    files.setdefault(shard_of(group.name), {}).update(tensors)
                for shard, tensors in files.items():
                    writer.write_tensors(f"{component}/{shard}.safetensors", tensors)
        return output

    return make


def random_activations(source: Source, seed: int = 100) -> Activations:
    """Tokens `[TOKENS, in]` for every group, with two channels sixty times larger than the others."""
    generator = torch.Generator().manual_seed(seed)
    activations = {}
    for component, checkpoint in source.components.items():
        for group in checkpoint.topology.groups:
            tokens = torch.randn(TOKENS, group.in_features, generator=generator)
            tokens[:, [1, -3]] *= 60
            activations[component, group.name] = tokens
    return activations


def _statistics(group: str, tokens: Tensor) -> dict[str, Tensor]:
    """The tokens dealt out over buckets and branches, as a collector would have met them."""
    parts = tokens.reshape(BUCKETS // 2, len(BRANCHES), -1, tokens.shape[-1])
    parts = torch.cat([parts, torch.zeros_like(parts)])  # half the buckets are never met
    return {
        f"{group}.absmax": parts.abs().amax(dim=2),
        f"{group}.abs_sum": parts.abs().double().sum(dim=2),
        f"{group}.count": torch.full((BUCKETS, len(BRANCHES)), parts.shape[2]),
    }


@pytest.fixture
def activations_of() -> Callable[[Path], Activations]:
    """The activations that `make_stats` gives a model."""
    return lambda model: random_activations(open_source(str(model)))


@pytest.fixture
def make_smoothed(tmp_path: Path, make_stats: MakeStats) -> MakeSmoothed:
    """Smooth a model into `tmp_path/name`."""

    def make(model: Path, settings: SmoothSettings | None = None, name: str = "smoothed") -> Path:
        output = tmp_path / name
        stats = open_stats(make_stats(model, name=f"stats-of-{name}"))
        smooth(open_source(str(model)), stats, settings or SmoothSettings(), output)
        return output

    return make


@pytest.fixture
def smoothed(make_smoothed: MakeSmoothed, i2v_model: Path) -> Path:
    """Smoothed weights of the image-to-video model."""
    return make_smoothed(i2v_model)


@pytest.fixture
def int8_rows() -> Callable[[np.ndarray], np.ndarray]:
    """Round to nearest INT8 by row in fp64, the scale an fp32 value rounded up to bfloat16, as weights are."""

    def rounded(weight: np.ndarray) -> np.ndarray:
        bits = (np.abs(weight).max(axis=1, keepdims=True) / 127).astype(np.float32).view(np.uint32)
        scale = (((bits.astype(np.uint64) + 0xFFFF) >> 16) << 16).astype(np.uint32).view(np.float32).astype(np.float64)
        return np.round(weight / scale) * scale

    return rounded


@pytest.fixture
def make_problem() -> Callable[..., SmoothingProblem]:
    """A group with outlier channels, of two linears, with sampled tokens."""

    def make(
        channels: int = 32, fit: int = 192, held_out: int = 96, seed: int = 0, scheme: QuantScheme = INT8
    ) -> SmoothingProblem:
        generator = torch.Generator().manual_seed(seed)
        spread = torch.exp(0.5 * torch.randn(channels, generator=generator))
        spread[:2] *= torch.tensor([60.0, 25.0])
        rows = torch.randn(fit + held_out, channels, generator=generator) * spread
        rows *= 1 + 0.5 * torch.rand(fit + held_out, 1, generator=generator)
        bucket = torch.arange(fit + held_out) % BUCKETS
        parts = [
            Tokens(rows[part].bfloat16(), torch.ones(len(rows[part])), bucket[part])
            for part in (slice(fit), slice(fit, None))
        ]
        weights = [torch.randn(size, channels, generator=generator) / (spread + 0.5) for size in (24, 40)]
        return SmoothingProblem(weights, rows.abs().amax(dim=0), rows.abs().mean(dim=0), *parts, scheme)

    return make


# --- sampled tokens ------------------------------------------------------------------------------


def correlated_tokens(count: int, in_features: int, seed: int, *, bucketed: bool = True) -> Tokens:
    """Rows that a quarter of the channels' number of hidden causes explains, with a channel ten times larger."""
    mixing = torch.randn(max(1, in_features // 4), in_features, generator=torch.Generator().manual_seed(in_features))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, len(mixing), generator=generator) @ mixing / len(mixing) ** 0.5
    rows += 0.1 * torch.randn(count, in_features, generator=generator) + 0.1
    rows[:, 1] *= 10
    weight = torch.rand(count, generator=generator) + 0.5
    bucket = torch.randint(2, BUCKETS, (count,), generator=generator)
    return Tokens(rows.bfloat16(), weight / weight.mean(), bucket if bucketed else torch.full_like(bucket, -1))


@pytest.fixture
def make_inputs() -> MakeInputs:
    """Correlated inputs of a linear, to solve on and to judge by."""

    def make(
        in_features: int = 64, fit: int = 256, held_out: int = 96, fmt: NumberFormat = NumberFormat.INT8
    ) -> LinearInputs:
        ones = torch.ones(in_features)
        parts = (correlated_tokens(fit, in_features, seed=1), correlated_tokens(held_out, in_features, seed=2))
        return LinearInputs(*(sampled(part, ones, fmt) for part in parts))

    return make


class TokenStats(ActivationStats):
    """Statistics that hold tokens of every group, without a file for them."""

    has_tokens = True

    def tokens(self, component: str, group: str, split: Split, device: str = "cpu") -> Tokens:
        config = self.artifact.manifest.components[component].config
        index, found = next(item for item in enumerate(topology(config).groups) if item[1].name == group)
        count, seed = (96, 2 * index) if split == "fit" else (48, 2 * index + 1)
        tokens = correlated_tokens(count, found.in_features, seed, bucketed=group not in ("text", "image"))
        return Tokens(tokens.rows.to(device), tokens.weight.to(device), tokens.bucket.to(device))


@pytest.fixture
def make_token_stats(make_stats: MakeStats) -> MakeTokenStats:
    """Statistics of a model, with sampled tokens."""
    return lambda model: TokenStats(open_stats(make_stats(model, name="token-stats")).artifact)


@pytest.fixture
def stats(i2v_model: Path, make_token_stats: MakeTokenStats) -> ActivationStats:
    """Statistics of the image-to-video model, with sampled tokens."""
    return make_token_stats(i2v_model)


@pytest.fixture
def make_offset_stats(make_token_stats: MakeTokenStats, monkeypatch: pytest.MonkeyPatch) -> MakeOffsetStats:
    """Statistics of a model whose sampled tokens have a mean in every channel, but for those of the groups `without`.

    All statistics of the test have it then.
    """

    def make(model: Path, *without: str) -> ActivationStats:
        sampled = TokenStats.tokens

        def tokens(self: TokenStats, component: str, group: str, split: Split, device: str = "cpu") -> Tokens:
            found = sampled(self, component, group, split, device)
            rows = found.rows.float() + (0.0 if group in without else MEAN)
            return replace(found, rows=rows.to(found.rows.dtype))

        monkeypatch.setattr(TokenStats, "tokens", tokens)
        return make_token_stats(model)

    return make


@pytest.fixture
def offset_stats(make_offset_stats: MakeOffsetStats, i2v_model: Path) -> ActivationStats:
    """Those of the image-to-video model, with a mean everywhere."""
    return make_offset_stats(i2v_model)


@pytest.fixture
def filled_model(make_model: MakeModel, i2v_config: Config) -> Path:
    """An image-to-video transformer of which every row fills groups of 4 and 6 bits."""
    return make_model(i2v_config | {"ffn_dim": 96}, name="filled")


@pytest.fixture
def filled_stats(make_token_stats: MakeTokenStats, filled_model: Path) -> ActivationStats:
    """Statistics of that model, with sampled tokens."""
    return make_token_stats(filled_model)


@pytest.fixture
def output_snr() -> Callable[..., float]:
    """SNR of what a runtime computes of a linear, bias included in the error alone, as in X·Wᵀ + b − (X̂·Ŵᵀ + b̂)."""

    def measure(
        component: SmoothedTransformer, linear: str, tokens: Tokens, weight: Quantized, bias: Tensor, scheme: str
    ) -> float:
        original, original_bias = component.plain([f"{linear}.weight", f"{linear}.bias"]).values()
        gain = component.input_gain(component.topology.group_of(linear))
        exact = (tokens.rows.double() * gain.double()) @ original.double().T
        output = w8a8_linear(tokens.rows, weight, bias, scheme_named(scheme).activation, gain).double()
        w = tokens.weight.double()
        signal, noise = (w @ part.square().sum(dim=1) for part in (exact, exact + original_bias.double() - output))
        return float(10 * torch.log10(signal / noise))

    return measure
