"""Everything that the commands read: tiny models in every layout, what is made of them, and user's files."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.families.wan import native_config, to_native
from vq_core.testing.tiny_models import INNER_DIM, Variant, build_tiny, write_samples
from vq_export.encoders import ENCODERS
from vq_export.encoders.source import open_encoders

MODELS: dict[str, Variant] = {"t2v": "t2v", "i2v": "i2v", "vace": "vace", "experts": "t2v-2.2"}

RECIPE = """\
model: ./t2v
scheme: int8
calib: {prompts: prompts, steps: 2, tokens: 64}
smooth: {method: smoothquant, alpha: 0.6}
quantize: {method: rtn}
"""
GATE = """\
gates:
  - {metric: psnr, worst: 5}
  - {metric: ssim, mean: 0.05}
"""
LLMC = """\
base: {seed: &seed 42}
model: {type: WanT2V, path: t2v, torch_dtype: auto}
calib: {name: t2v, download: False, path: prompts, sample_steps: 2, bs: 1, target_height: 32, target_width: 32,
  num_frames: 5, guidance_scale: 5.0, seed: *seed}
quant:
  video_gen:
    method: SmoothQuant
    weight: {bit: 8, symmetric: True, granularity: per_channel}
    act: {bit: 8, symmetric: True, granularity: per_token}
    special: {alpha: 0.75}
save: {save_lightx2v: True, save_path: saved}
"""


def write_inputs(folder: Path, models: Mapping[str, Path] | None = None) -> Path:
    """Write what no command makes to `folder`, which is made.

    With `models`, tiny models that are there already, only those, and of the layouts only the text-to-video model's.
    """
    folder.mkdir(parents=True)
    for name, variant in MODELS.items():
        if models is None:
            build_tiny(variant, folder / name)
        elif name in models:
            shutil.copytree(models[name], folder / name)
    write_samples(folder / "prompts", 2, with_images=True)
    for name, source in (("image.png", "image_0.png"), ("mask.png", "mask.png"), ("video.mkv", "video_0.mkv")):
        shutil.copy(folder / "prompts" / source, folder / name)
    for name, text in (("recipe.yaml", RECIPE), ("llmc.yaml", LLMC), ("gate.yaml", GATE)):
        (folder / name).write_text(text, encoding="utf-8")
    _write_layouts(folder)
    _write_lora(folder / "lora.safetensors")
    if "i2v" in (models or MODELS):
        _write_encoders(folder)
    return folder


def _tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _write_layouts(folder: Path) -> None:
    """The text-to-video transformer as Wan-AI lays it out, in one file, and in a `.pth` file."""
    source = folder / "t2v" / "transformer"
    tensors, config = _tensors(source), json.loads((source / "config.json").read_text(encoding="utf-8"))
    native = folder / "native"
    native.mkdir()
    (native / "config.json").write_text(json.dumps(native_config(config)), encoding="utf-8")
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({to_native(name): tensors[name] for name in part}, native / file)
        weight_map |= {to_native(name): file for name in part}
    index = {"metadata": {"total_size": sum(it.nbytes for it in tensors.values())}, "weight_map": weight_map}
    (native / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for name in ("single", "pth"):
        (folder / name).mkdir()
        shutil.copy(source / "config.json", folder / name)
    save_file(tensors, folder / "single" / "model.safetensors")
    torch.save(tensors, folder / "pth" / "model.pth")


def _write_lora(path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    stem = "transformer.blocks.0.attn1.to_q"
    down, up = (0.1 * torch.randn(shape, generator=generator) for shape in ((4, INNER_DIM), (INNER_DIM, 4)))
    pair = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up, f"{stem}.alpha": torch.tensor(2.0)}
    save_file(pair, path, {"format": "pt"})


def _write_encoders(folder: Path) -> None:
    """A pipeline of encoders alone, with the activation of LightX2V's image encoder, and their files as exported."""
    for name in ("text_encoder", "image_encoder"):
        shutil.copytree(folder / "i2v" / name, folder / "encoder-model" / name)
    shutil.copy(folder / "i2v" / "model_index.json", folder / "encoder-model")
    config = folder / "encoder-model" / "image_encoder" / "config.json"
    changed = json.loads(config.read_text(encoding="utf-8")) | {"hidden_act": "gelu"}
    config.write_text(json.dumps(changed), encoding="utf-8")
    for source in open_encoders(str(folder / "encoder-model"), {}):
        tensors = {name: _joined(list(source.pieces(name))).reshape(source.shapes[name]) for name in source.shapes}
        if source.encoder is ENCODERS["t5"]:
            save_file(tensors, folder / "t5.safetensors")
        else:
            torch.save(tensors, folder / "clip.pth")


def _joined(pieces: list[Tensor]) -> Tensor:
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).clone()


def files_below(path: Path) -> Iterator[Path]:
    """Every file of an input, in order; the input itself where it is one."""
    if path.is_dir():
        yield from sorted(it for it in path.rglob("*") if it.is_file() or it.is_symlink())
    else:
        yield path
