"""Random Wan models in diffusers' layout, their artifacts, and checkpoints that are written anew after an edit."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.artifacts.converted import open_converted
from vq_core.families.wan import to_native, topology
from vq_core.files.tensor_file import read_metadata
from vq_core.numerics.rounding import emulate_qtorch_e4m3
from vq_core.recipes.recipe import Recipe
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_core.testing.artifacts import write_qparams, write_weights
from vq_export.export import open_model
from vq_export.model.quantized_model import QuantizedModel
from vq_export.options import ExportOptions
from vq_export.targets.lightx2v import export

T2V: dict[str, Any] = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 16,
    "ffn_dim": 160,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "t2v": T2V,
    "i2v": T2V | {"in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 64},
    "i2v-2.2": T2V | {"in_channels": 36},
    "ti2v-5b": T2V | {"in_channels": 48, "out_channels": 48},
}
COMPONENTS = {"i2v-2.2": ("transformer", "transformer_2")}


def _tensors(config: dict[str, Any], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = topology(config).tensors
    return {name: (0.1 * torch.randn(shape, generator=generator)).bfloat16() for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_model(kind, seed=0, edit=None)`: a pipeline folder of random transformers, after `edit` of the tensors."""

    def make(kind: str, seed: int = 0, edit: Callable[[dict[str, Tensor]], None] | None = None) -> Path:
        root = tmp_path_factory.mktemp(kind)
        components = COMPONENTS.get(kind, ("transformer",))
        for number, component in enumerate(components):
            tensors = _tensors(CONFIGS[kind], seed + 100 * number)
            if edit is not None:
                edit(tensors)
            (root / component).mkdir()
            (root / component / "config.json").write_text(json.dumps(CONFIGS[kind]))
            save_file(tensors, root / component / "diffusion_pytorch_model.safetensors")
        index = {"_class_name": "WanPipeline"} | {
            component: ["diffusers", "WanTransformer3DModel"] for component in components
        }
        (root / "model_index.json").write_text(json.dumps(index))
        return root

    return make


@pytest.fixture(scope="session")
def models(make_model: Callable[..., Path]) -> dict[str, Path]:
    """One model of each kind; not to be changed."""
    return {kind: make_model(kind) for kind in CONFIGS}


@pytest.fixture(scope="session")
def big_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-video transformer of twelve blocks and 150 MB, for measurements of memory; not to be changed."""
    folder = tmp_path_factory.mktemp("big")
    config = CONFIGS["t2v"] | {"num_attention_heads": 32, "ffn_dim": 4096, "num_layers": 12}
    (folder / "config.json").write_text(json.dumps(config))
    pool = torch.randn(512 * 4096, generator=torch.Generator().manual_seed(0)).bfloat16()
    shapes = {name: torch.Size(shape) for name, shape in topology(config).tensors.items()}
    tensors = {name: pool[: shape.numel()].reshape(shape).clone() for name, shape in shapes.items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


@dataclass(frozen=True)
class Artifacts:
    """Smoothed weights and quant params of a model, and the gains of its groups by component."""

    weights: Path
    qparams: Path
    gains: dict[str, dict[str, Tensor]]

    def opened(self) -> QuantizedModel:
        """The model that both describe, as `--weights` and `--qparams` open it."""
        return open_model(ExportOptions(weights=self.weights, qparams=self.qparams), Recipe())


@pytest.fixture(scope="session")
def make_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifacts]:
    """`make_artifacts(model, scheme, octaves=2.0)`: what vq-algos would write, with random gains for every group.

    `across` gives the modulated norms of all blocks one more in common. With `corrected`, the quant params hold that
    bias, increased by 1; `clip` multiplies the scales of all weights.
    """

    def make(
        model: Path,
        scheme: str = "int8",
        *,
        octaves: float = 2.0,
        across: bool = False,
        method: str = "random",
        **rounding: Any,
    ) -> Artifacts:
        root = tmp_path_factory.mktemp("artifacts")
        gains = write_weights(model, root / "smoothed", octaves=octaves, across=across, method=method)
        shift = 1.0 if "corrected" in rounding else None
        write_qparams(root / "smoothed", root / "qparams", scheme, bias_shift=shift, **rounding)
        return Artifacts(root / "smoothed", root / "qparams", gains)

    return make


@pytest.fixture(scope="session")
def convert() -> Callable[..., QuantizedModel]:
    """`convert(model, scheme="int8", **options)`: the model in that folder as `--model` opens it."""

    def opened(model: Path, scheme: str = "int8", **options: Any) -> QuantizedModel:
        return open_model(ExportOptions(model=str(model), scheme=scheme, **options), Recipe())

    return opened


@pytest.fixture(scope="session")
def smoothed_i2v(models: dict[str, Path], make_artifacts: Callable[..., Artifacts]) -> dict[str, Artifacts]:
    """Artifacts of the image-to-video model by scheme; not to be changed."""
    return {scheme: make_artifacts(models["i2v"], scheme) for scheme in ("int8", "fp8")}


@pytest.fixture(scope="session")
def smoothed_across(models: dict[str, Path], make_artifacts: Callable[..., Artifacts]) -> dict[str, Artifacts]:
    """The same, with a gain more for the modulated norms of all blocks."""
    return {scheme: make_artifacts(models["i2v"], scheme, across=True) for scheme in ("int8", "fp8")}


@pytest.fixture
def vq_export(run_command: Callable[..., int]) -> Callable[..., int]:
    """Run the command in this process; returns its exit code."""
    return partial(run_command, "vq-export")


@pytest.fixture(scope="session")
def checkpoints(
    tmp_path_factory: pytest.TempPathFactory,
    models: dict[str, Path],
    smoothed_i2v: dict[str, Artifacts],
    smoothed_across: dict[str, Artifacts],
    convert: Callable[..., QuantizedModel],
) -> dict[str, Path]:
    """Checkpoints, not to be changed: image-to-video smoothed, every kind of model converted, in both schemes."""
    root = tmp_path_factory.mktemp("checkpoints")
    opened = {f"{scheme}-smoothed": made.opened() for scheme, made in smoothed_i2v.items()}
    opened |= {f"{scheme}-across": made.opened() for scheme, made in smoothed_across.items()}
    for kind, model in models.items():
        opened |= {f"{scheme}-{kind}": convert(model, scheme) for scheme in ("int8", "fp8")}
    for name, quantized in opened.items():
        export(quantized, root / name)
    return {name: root / name for name in opened}


@dataclass
class Content:
    """What a checkpoint holds: tensors, texts and safetensors' metadata, each by file."""

    tensors: dict[str, dict[str, Tensor]]
    texts: dict[str, str]
    metadata: dict[str, dict[str, str]]

    def find(self, name: str) -> dict[str, Tensor]:
        """The tensors of the file that holds `name`."""
        return next(tensors for tensors in self.tensors.values() if name in tensors)

    def change(self, name: str, edited: Callable[[Tensor], Tensor]) -> None:
        """Replace the tensor `name`."""
        tensors = self.find(name)
        tensors[name] = edited(tensors[name]).contiguous()

    def put(self, name: str, position: int, value: float) -> None:
        """Set one element of the tensor `name`."""
        changed = self.find(name)[name].clone()
        changed.view(-1)[position] = torch.tensor(value).to(changed.dtype)
        self.change(name, lambda _: changed)

    def edit_json(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Let `change` work on the JSON object in `file`."""
        content = json.loads(self.texts[file])
        change(content)
        self.texts[file] = json.dumps(content)


Edit = Callable[[Content], object]


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[..., Path]:
    """`rewrite(checkpoint, edit)`: the checkpoint after `edit`, as an artifact whose digests are all right."""

    def write(checkpoint: Path, edit: Edit) -> Path:
        manifest = open_converted(checkpoint).artifact.manifest
        texts = {file for file in manifest.files if not file.endswith(".safetensors")}
        content = Content(
            {file: load_file(checkpoint / file) for file in manifest.files.keys() - texts},
            {file: (checkpoint / file).read_text() for file in texts},
            {file: read_metadata(checkpoint / file) for file in manifest.files.keys() - texts},
        )
        edit(content)
        known = {key: getattr(manifest, key) for key in ("kind", "format", "tool", "family", "model", "settings")}
        components = {
            name: ComponentHeader(entry.folder, entry.fingerprint, entry.config)
            for name, entry in manifest.components.items()
        }
        output = tmp_path / "rewritten"
        with create_artifact(output, Header(**known, components=components)) as writer:
            writer.note_measured(manifest.measured)
            for file, tensors in content.tensors.items():
                writer.write_tensors(file, tensors, content.metadata.get(file, {}))
            for file, text in content.texts.items():
                writer.write_text(file, text)
        return output

    return write


def _smoothed_by_llmc(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Fold an s of [1/4, 4] into the three groups per block that LLMC smooths; gains are `affine_norm`s, fp32."""
    generator, made = torch.Generator().manual_seed(11), topology(config)
    for group in made.groups:
        if group.gain not in made.gains and not group.name.endswith("attn2.q"):
            continue
        s = (4 ** (2 * torch.rand(group.in_features, generator=generator) - 1)).bfloat16()
        for part in ("weight", "bias"):
            if group.gain in made.gains:
                tensors[group.gain.replace("norm", "affine_norm").replace("gain", part)] = torch.ones(len(s)) / s
            else:
                tensors[f"{group.name.removesuffix('attn2.q')}norm2.{part}"] /= s
        for linear in group.reads:
            tensors[f"{linear}.weight"] *= s


def _quantized_by_llmc(weight: Tensor, scheme: str) -> tuple[Tensor, Tensor]:
    """Codes and scale: round(W / scale) in [−128, 127], or QPyTorch's E4M3, in bfloat16 throughout."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / (127 if scheme == "int8" else 448)
    if scheme == "int8":
        return (weight / scale).round().clamp(-128, 127).to(torch.int8), scale
    return emulate_qtorch_e4m3((weight / scale).float()).to(torch.float8_e4m3fn), scale


@pytest.fixture
def by_llmc(tmp_path: Path) -> Callable[..., Path]:
    """`by_llmc(kind, "int8" | "fp8" | None, smooth=True, native=False)`: what `save_lightx2v` writes, or `save_trans`.

    With `native`, names are those that LightX2V's converter gives them.
    """

    def save(kind: str, scheme: str | None, *, smooth: bool = True, native: bool = False) -> Path:
        tensors, made = _tensors(CONFIGS[kind], 0), topology(CONFIGS[kind])
        if smooth:
            _smoothed_by_llmc(tensors, CONFIGS[kind])
        for gain, length in made.gains.items():
            for part in ("weight", "bias"):
                tensors.setdefault(gain.replace("norm", "affine_norm").replace("gain", part), torch.ones(length))
        for linear in made.linears if scheme else ():
            name = f"{linear.name}.weight"
            tensors[name], tensors[f"{name}_scale"] = _quantized_by_llmc(tensors[name], str(scheme))
        if native:
            tensors = {(name if "affine" in name else to_native(name)): tensor for name, tensor in tensors.items()}
        folder = tmp_path / f"llmc-{kind}-{scheme}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIGS[kind] | {"quant_method": "advanced_ptq"}))
        for number in (1, 2):
            file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
            save_file({name: tensors[name] for name in list(tensors)[number - 1 :: 2]}, folder / file)
        return folder

    return save
