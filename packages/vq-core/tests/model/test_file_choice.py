"""Of several weight files in a folder those that belong together are read, and nobody is told to delete one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families.wan import to_native
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.model.file_choice import expert_files, without_variants
from vq_core.model.source import open_source

SINGLE = "diffusion_pytorch_model.safetensors"
Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("wan2.2_i2v_high_noise_14B_fp16", "wan2.2_i2v_low_noise_14B_fp16"),
        ("Wan2_2-I2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ", "Wan2_2-I2V-A14B-LOW_fp8_e4m3fn_scaled_KJ"),
        ("HighNoise-Q8", "LowNoise-Q8"),
        ("high", "low"),
        ("wan22-high-noise-1030", "wan22-low-noise"),
    ],
)
def test_two_experts_are_told_by_their_names(high: str, low: str) -> None:
    sets = without_variants([Path(f"{low}.safetensors"), Path(f"{high}.safetensors")])
    assert expert_files(sets) == {
        "transformer": (Path(f"{high}.safetensors"),),
        "transformer_2": (Path(f"{low}.safetensors"),),
    }


@pytest.mark.parametrize(
    "names",
    [
        ("wan_high_noise",),
        ("wan_high_noise", "wan_other"),
        ("wan_high_noise", "wan_low_noise", "vace"),
        ("a_high_noise", "b_high_noise"),
        ("from_high_to_low_a", "from_high_to_low_b"),
        ("flow_a", "highway_b"),
    ],
)
def test_other_files_are_no_pair(names: tuple[str, ...]) -> None:
    assert expert_files([(Path(f"{name}.safetensors"),) for name in names]) == {}


@pytest.fixture
def experts(t2v_config: dict[str, Any], random_tensors: Any) -> list[dict[str, Tensor]]:
    return [random_tensors(t2v_config, seed=seed) for seed in range(2)]


@pytest.fixture
def pair(tmp_path: Path, t2v_config: Any, experts: Any, write_native: Write) -> Path:
    """Two experts as two files in one folder, and one configuration."""
    folder = tmp_path / "diffusion_models"
    for noise, tensors in zip(("high", "low"), experts, strict=True):
        made = write_native(tmp_path / noise, t2v_config, tensors)
        folder.mkdir(exist_ok=True)
        shutil.copy(made / SINGLE, folder / f"wan2.2_{noise}_noise_14B_bf16.safetensors")
        shutil.copy(made / "config.json", folder)
    return folder


def test_a_pair_in_one_folder(pair: Path, experts: list[dict[str, Tensor]]) -> None:
    source = open_source(str(pair))
    assert list(source.components) == ["transformer", "transformer_2"]
    for component, tensors in zip(source.components.values(), experts, strict=True):
        loaded = component.plain(tensors)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_pair_in_shards(tmp_path: Path, pair: Path, t2v_config: Any, experts: Any, write_native: Write) -> None:
    expected = open_source(str(pair)).fingerprints
    for path in pair.glob("*.safetensors"):
        path.unlink()
    for noise, tensors in zip(("high", "low"), experts, strict=True):
        sharded = write_native(tmp_path / f"{noise}-shards", t2v_config, tensors, shards=2)
        for path in sharded.glob("*.safetensors"):
            shutil.copy(path, pair / path.name.replace("diffusion_pytorch_model", f"wan_{noise}_noise"))
    assert open_source(str(pair)).fingerprints == expected
    (pair / "wan_low_noise-00002-of-00002.safetensors").unlink()
    with pytest.raises(VqError, match=r"wan_low_noise-00002-of-00002\.safetensors is missing"):
        open_source(str(pair))


def test_a_pair_in_two_precisions_is_read_in_the_higher(
    pair: Path, experts: list[dict[str, Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    for noise, tensors in zip(("high", "low"), experts, strict=True):
        stored = {to_native(name): tensor.float() for name, tensor in tensors.items()}
        save_file(stored, pair / f"wan2.2_{noise}_noise_14B_fp32.safetensors")
    source = open_source(str(pair))
    assert all(component.dtype("proj_out.bias") == "F32" for component in source.components.values())
    assert "wan2.2_low_noise_14B_fp32.safetensors is read, the most precise" in caplog.text
    assert "and not wan2.2_low_noise_14B_bf16.safetensors" in caplog.text


def test_refuses_experts_of_two_models(
    tmp_path: Path, pair: Path, i2v_config: Any, random_tensors: Any, write_native: Write
) -> None:
    other = write_native(tmp_path / "other", i2v_config, random_tensors(i2v_config))
    shutil.copy(other / SINGLE, pair / "wan2.2_low_noise_14B_bf16.safetensors")
    config = json.loads((pair / "config.json").read_text())
    (pair / "config.json").write_text(json.dumps({"_class_name": "WanModel", "num_heads": config["num_heads"]}))
    with pytest.raises(VqError, match="are not of one architecture: give the experts of one model"):
        open_source(str(pair))


def test_files_that_nothing_tells_apart_are_refused_without_advice_to_delete(pair: Path) -> None:
    (pair / "wan2.2_high_noise_14B_bf16.safetensors").rename(pair / "wan2.2_other_14B_bf16.safetensors")
    with pytest.raises(
        VqError, match="and nothing says which counts: give the file that you mean; two experts"
    ) as caught:
        open_source(str(pair))
    assert "remove" not in str(caught.value)
    assert "stale" not in str(caught.value)


# --- Variants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("index", [False, True])
def test_the_full_variant_is_preferred(
    tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Write, shards: int, index: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    tensors = random_tensors(t2v_config, torch.float32)
    folder = write_transformer(tmp_path / "m", t2v_config, tensors, shards=shards)
    before = open_source(str(folder)).fingerprints
    if not index:
        (folder / INDEX_FILE).unlink(missing_ok=True)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(halves, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert open_source(str(folder)).fingerprints == before
    assert "fp16.safetensors" in caplog.text
    if index and shards == 1:  # of the other variant
        (folder / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text("{}")
        assert open_source(str(folder)).fingerprints == before


def test_a_variant_in_shards_beside_a_whole_file(
    tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Write
) -> None:
    tensors = random_tensors(t2v_config, torch.float32)
    folder = write_transformer(tmp_path / "m", t2v_config, tensors)
    before = open_source(str(folder)).fingerprints
    names = sorted(tensors)
    for number, part in enumerate((names[:9], names[9:]), 1):
        halves = {name: tensors[name].half() for name in part}
        save_file(halves, folder / f"diffusion_pytorch_model.fp16-{number:05}-of-00002.safetensors")
    assert open_source(str(folder)).fingerprints == before
    (folder / SINGLE).unlink()
    assert open_source(str(folder)).components["transformer"].dtype(names[0]) == "F16"


def test_a_variant_as_precise_gives_way_to_the_name_without_one(
    tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Write
) -> None:
    tensors = random_tensors(t2v_config)
    folder = write_transformer(tmp_path / "m", t2v_config, tensors)
    save_file({name: it.half() for name, it in tensors.items()}, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert open_source(str(folder)).components["transformer"].dtype("proj_out.bias") == "BF16"
    (folder / SINGLE).rename(folder / "diffusion_pytorch_model.bf16.safetensors")
    with pytest.raises(VqError, match=r"\.bf16\.safetensors and \S+\.fp16\.safetensors in \S+ are two variants of one"):
        open_source(str(folder))


def test_parts_of_one_model_are_no_variants(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({name: torch.ones(1)}, tmp_path / f"x_fp{16 if name == 'a' else 32}.safetensors")
    assert len(without_variants(sorted(tmp_path.glob("*.safetensors")))) == 2
