"""Sound checkpoints to break: small random models, smoothed by random gains in every group, rounded and exported."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors.torch import save_file
from torch import Tensor

from vq_core.families import wan
from vq_core.model.source import SourceTransformer, open_source
from vq_core.numerics.folding import fold_group
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import QuantScheme, scheme_named
from vq_export.model.derived import Derived
from vq_export.model.quantized_model import QuantizedModel
from vq_export.targets import lightx2v

CONFIG: dict[str, Any] = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 16,
    "ffn_dim": 160,
    "num_layers": 3,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": 48,
    "added_kv_proj_dim": 64,
    "pos_embed_seq_len": None,
}
NO_IMAGE = {"image_dim": None, "added_kv_proj_dim": None}


@dataclass(frozen=True)
class Example:
    """A model and the sound checkpoint that was made of it."""

    model: Path
    checkpoint: Path


def build_examples(folder: Path) -> dict[str, Example]:
    """By name: Wan 2.1 image-to-video in INT8 and in FP8, and the two experts of Wan 2.2 in INT8."""
    return {
        "int8": _example(folder / "int8", CONFIG, ("transformer",), "int8"),
        "fp8": _example(folder / "fp8", CONFIG, ("transformer",), "fp8"),
        "experts": _example(folder / "experts", CONFIG | NO_IMAGE, ("transformer", "transformer_2"), "int8"),
    }


def _example(folder: Path, config: dict[str, Any], components: tuple[str, ...], scheme: str) -> Example:
    model = folder / "model"
    for seed, component in enumerate(components):
        (model / component).mkdir(parents=True)
        (model / component / "config.json").write_text(json.dumps(config))
        save_file(_tensors(config, seed), model / component / "diffusion_pytorch_model.safetensors")
    listed = {component: ["diffusers", "WanTransformer3DModel"] for component in components}
    (model / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **listed}))
    lightx2v.export(_smoothed(model, scheme), folder / "checkpoint")
    return Example(model, folder / "checkpoint")


def _tensors(config: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Random tensors as large as trained ones: norms around one, linears that keep the variance of their input."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in wan.topology(config).tensors.items():
        noise = torch.randn(shape, generator=generator)
        if "norm" in name and name.endswith(".weight"):
            tensors[name] = 1 + 0.1 * noise
        elif name.endswith(".weight"):
            tensors[name] = noise / noise[0].numel() ** 0.5
        else:
            tensors[name] = 0.3 * noise
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


class _Smoothed(Derived):
    """A transformer whose every group was smoothed by gains between 1/4 and 4."""

    def __init__(self, original: SourceTransformer) -> None:
        super().__init__(original)
        generator = torch.Generator().manual_seed(7)
        ones = {name: torch.ones(length) for name, length in self.topology.gains.items()}
        self._tensors = original.plain(self.topology.tensors) | ones
        for group in self.topology.groups:
            if group.sink is not None:
                exponents = 2 * torch.rand(group.in_features, generator=generator) - 1
                fold_group(self._tensors, group, (4**exponents).bfloat16().float())

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        return {name: self._tensors[name].to(device) for name in names}

    def linear(self, name: str, device: str = "cpu") -> Tensor:
        return self._tensors[f"{name}.weight"].to(device)

    def gain(self, name: str, device: str = "cpu") -> Tensor:
        # A copy: it is written twice, and safetensors refuses to write one memory twice.
        return self._tensors[name].to(device, copy=True)


class _Rounded(Derived):
    """The same, rounded to nearest."""

    def __init__(self, unrounded: _Smoothed, scheme: str) -> None:
        super().__init__(unrounded)
        self.unrounded = unrounded
        self._scheme = scheme_named(scheme)

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        return quantize_weight(self.unrounded.linear(name, device), self._scheme.weight)

    def scheme_of(self, linear: str) -> QuantScheme:
        return self._scheme

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        return None

    def rotation(self, linear: str) -> int:
        return NONE

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        return {"method": "rtn"}


def _smoothed(model: Path, scheme: str) -> QuantizedModel:
    source = open_source(str(model))
    return QuantizedModel(
        model=model.parent.name,
        family_name=source.family_name,
        family=source.family,
        scheme=scheme,
        components={name: _Rounded(_Smoothed(component), scheme) for name, component in source.components.items()},
        settings={"smooth": {"method": "random"}, "quantize": {"scheme": scheme, "method": "rtn"}},
        parents={},
    )
