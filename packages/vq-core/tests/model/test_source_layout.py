"""Every layout that models come in is found, and half a model in any of them is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.model.source import open_source

Write = Callable[..., Path]
SINGLE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def tensors(i2v_config: dict[str, Any], random_tensors: Any) -> dict[str, Tensor]:
    made: dict[str, Tensor] = random_tensors(i2v_config)
    return made


@pytest.fixture
def native(tmp_path: Path, i2v_config: dict[str, Any], tensors: Any, write_native: Write) -> Path:
    """A folder of Wan-AI's, in three shards."""
    return write_native(tmp_path / "native", i2v_config, tensors, shards=3)


@pytest.fixture
def fingerprint(tmp_path: Path, i2v_config: dict[str, Any], tensors: Any, write_transformer: Write) -> str:
    """Of the same tensors in diffusers' layout."""
    return fingerprint_of(write_transformer(tmp_path / "diffusers", i2v_config, tensors))


def fingerprint_of(model: Path, *, allow_pth: bool = False) -> str:
    (component,) = open_source(str(model), allow_pth=allow_pth).components.values()
    return component.fingerprint


def refusal(model: Path, *, allow_pth: bool = False) -> str:
    with pytest.raises(VqError) as caught:
        open_source(str(model), allow_pth=allow_pth)
    return str(caught.value)


def test_every_layout_of_the_family_in_both_spellings(
    tmp_path: Path, wan_config: dict[str, Any], random_tensors: Any, write_transformer: Write, write_native: Write
) -> None:
    tensors = random_tensors(wan_config)
    folders = [
        write_transformer(tmp_path / "diffusers", wan_config, tensors),
        write_native(tmp_path / "native", wan_config, tensors),
    ]
    one, other = (open_source(str(folder)).components["transformer"] for folder in folders)
    assert one.fingerprint == other.fingerprint
    assert one.topology == other.topology
    assert other.config | {"rope_max_seq_len": wan_config["rope_max_seq_len"]} == wan_config
    loaded = other.plain(tensors)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


# --- Wan-AI's folders ----------------------------------------------------------------------------


def test_a_whole_wan_ai_folder(native: Path, fingerprint: str) -> None:
    others = ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "models_clip_open-clip-xlm.pth")
    for name in (*others, "models_t5_umt5-xxl-enc-fp8.safetensors", "configuration.json", "README.md"):
        (native / name).write_bytes(b"not looked at")
    (native / "google").mkdir()
    assert fingerprint_of(native) == fingerprint
    (native / INDEX_FILE).unlink()
    assert fingerprint_of(native) == fingerprint


def test_two_experts(tmp_path: Path, t2v_config: dict[str, Any], random_tensors: Any, write_native: Write) -> None:
    root = tmp_path / "wan22"
    made = {
        name: random_tensors(t2v_config, seed=seed) for seed, name in enumerate(("high_noise_model", "low_noise_model"))
    }
    for name, tensors in made.items():
        write_native(root / name, t2v_config, tensors)
    source = open_source(str(root))
    assert list(source.components) == ["transformer", "transformer_2"]
    for component, name in (("transformer", "high_noise_model"), ("transformer_2", "low_noise_model")):
        (loaded,) = source.components[component].plain(["proj_out.weight"]).values()
        assert torch.equal(loaded, made[name]["proj_out.weight"])
    assert fingerprint_of(root / "low_noise_model") == source.fingerprints["transformer_2"]

    (root / "low_noise_model" / "config.json").rename(root / "config.json")  # one for both, as for LightX2V
    (root / "high_noise_model" / "config.json").unlink()
    assert open_source(str(root)).fingerprints == source.fingerprints
    (root / "low_noise_model").rename(root / "elsewhere")
    assert "has high_noise_model and lacks low_noise_model: get the whole model" in refusal(root)


def test_folders_named_as_the_components(
    tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Write
) -> None:
    for seed, name in enumerate(("transformer", "transformer_2")):
        write_transformer(tmp_path / "m" / name, t2v_config, random_tensors(t2v_config, seed=seed))
    assert list(open_source(str(tmp_path / "m")).components) == ["transformer", "transformer_2"]


# --- One file ------------------------------------------------------------------------------------


def test_refuses_a_pipeline_without_its_index(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("i2v-2.2"), tmp_path / "m")
    (model / "model_index.json").unlink()
    said = f"{model}/model_index.json is missing, and vae is there: get the whole pipeline, or give {model}/transformer"
    assert refusal(model) == f"{said} alone."
    assert open_source(str(model / "transformer")).components


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_one_file_with_its_configuration(
    tmp_path: Path, i2v_config: Any, tensors: Any, write_native: Write, fingerprint: str, prefix: str
) -> None:
    folder = write_native(tmp_path / "native", i2v_config, tensors, prefix=prefix)
    assert fingerprint_of(folder / SINGLE) == fingerprint


def test_one_file_alone(tmp_path: Path, random_tensors: Any, t2v_config: Any, write_native: Write) -> None:
    wide = t2v_config | {"num_attention_heads": 2, "attention_head_dim": 128}
    folder = write_native(tmp_path / "native", wide, random_tensors(wide))
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan"}))  # of something else
    checkpoint = open_source(str(folder / SINGLE)).components["transformer"]
    assert (checkpoint.config["num_attention_heads"], checkpoint.config["attention_head_dim"]) == (2, 128)


def test_refuses_one_file_that_does_not_tell_its_heads(native: Path) -> None:
    content = {name: tensor for shard in native.glob("*.safetensors") for name, tensor in load_file(shard).items()}
    save_file(content, native.parent / "alone.safetensors")
    assert "alone.safetensors does not tell its number of attention heads" in refusal(
        native.parent / "alone.safetensors"
    )


def test_refuses_one_of_several_shards(native: Path) -> None:
    shard = sorted(native.glob("*.safetensors"))[0]
    assert f"{shard} is one of several shards: give its folder" in refusal(shard)


# --- .pth ----------------------------------------------------------------------------------------


@pytest.fixture
def pth(tmp_path: Path, i2v_config: Any, tensors: Any, write_native: Write) -> Path:
    folder = write_native(tmp_path / "pth", i2v_config, tensors)
    torch.save(load_file(folder / SINGLE), folder / "diffusion_pytorch_model.pth")
    (folder / SINGLE).unlink()
    (folder / "Wan2.1_VAE.pth").write_bytes(b"not looked at")
    return folder


def test_pth_is_read_where_it_is_allowed(pth: Path, fingerprint: str) -> None:
    assert fingerprint_of(pth, allow_pth=True) == fingerprint
    assert fingerprint_of(pth / "diffusion_pytorch_model.pth", allow_pth=True) == fingerprint


def test_refuses_pth_where_it_is_not_asked_for(pth: Path) -> None:
    for model in (pth, pth / "diffusion_pytorch_model.pth"):
        assert "no safetensors file but diffusion_pytorch_model.pth, a format that can carry programs" in refusal(model)
        assert "add --allow-pth" in refusal(model)


# --- Half a model --------------------------------------------------------------------------------


def test_refuses_a_folder_that_is_half_diffusers_and_half_native(native: Path, tensors: Any) -> None:
    (native / INDEX_FILE).unlink()
    shards = sorted(native.glob("*.safetensors"))
    save_file(dict(list(tensors.items())[2::3]), shards[2])
    assert "is half in diffusers' names" in refusal(native)


def test_refuses_a_configuration_of_another_model(native: Path) -> None:
    config = json.loads((native / "config.json").read_text())
    (native / "config.json").write_text(json.dumps(config | {"num_layers": 40}))
    assert "config.json says num_layers=40 and the tensors in" in refusal(native)


def test_refuses_a_shard_that_is_changed_between_opening_and_reading(native: Path) -> None:
    checkpoint = open_source(str(native)).components["transformer"]
    shard = sorted(native.glob("*.safetensors"))[0]
    os.utime(shard, ns=(0, 1))
    with pytest.raises(VqError, match=f"{shard.name} was changed or removed while it was being read"):
        checkpoint.plain(checkpoint.topology.tensors)
