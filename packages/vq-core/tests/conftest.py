"""Wan configurations, and checkpoints of random tensors with the names and shapes that a topology promises."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import save_file
from torch import Tensor

from vq_core.families.wan import native_config, to_native
from vq_core.families.wan import topology as wan_topology
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.recipes.recipe import Recipe, read_recipe
from vq_core.sampling.prompts import FILES, ModelInputs, Sample, read_samples
from vq_core.testing.tiny_models import write_samples

Config = dict[str, Any]
RandomTensors = Callable[..., dict[str, Tensor]]
WriteTransformer = Callable[..., Path]

T2V: Config = {
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
    "rope_max_seq_len": 32,
}
I2V = T2V | {"in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 64}
CONFIGS: dict[str, Config] = {
    "t2v": T2V,
    "i2v": I2V,
    "flf2v": I2V | {"pos_embed_seq_len": 10},
    "vace": T2V
    | {"_class_name": "WanVACETransformer3DModel", "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 96},
    "i2v-2.2": T2V | {"in_channels": 36},
    "ti2v-5b": T2V | {"in_channels": 48, "out_channels": 48, "num_attention_heads": 3},
}


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty filesystem in memory, `memory://`, and a cache of this test's own."""
    monkeypatch.setenv("VQ_CACHE", str(tmp_path / "cache"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield MemoryFileSystem()
    MemoryFileSystem.store.clear()


@pytest.fixture(params=sorted(CONFIGS))
def wan_config(request: pytest.FixtureRequest) -> Config:
    """Every Wan layout in turn, small."""
    return dict(CONFIGS[request.param])


@pytest.fixture
def wan_configs() -> dict[str, Config]:
    """Every Wan layout by name, small."""
    return CONFIGS


@pytest.fixture
def i2v_config() -> Config:
    """Wan2.1 image-to-video, small: the layout with every kind of tensor but FLF2V's position embedding."""
    return dict(I2V)


@pytest.fixture
def vace_config() -> Config:
    """VACE, small: two blocks that steer the first and the last of three."""
    return dict(CONFIGS["vace"])


@pytest.fixture
def t2v_config() -> Config:
    """Text-to-video, small."""
    return dict(T2V)


@pytest.fixture
def random_tensors() -> RandomTensors:
    """Make every tensor of a configuration's topology, standard normal."""

    def make(config: Config, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shapes = wan_topology(config).tensors
        return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}

    return make


@pytest.fixture
def write_transformer() -> WriteTransformer:
    """Write a transformer folder as diffusers does: config.json, and one file or several shards with an index."""

    def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], shards: int = 1) -> Path:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        if shards == 1:
            save_file(dict(tensors), folder / "diffusion_pytorch_model.safetensors")
            return folder
        files = [f"diffusion_pytorch_model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
        weight_map = {name: files[position % shards] for position, name in enumerate(tensors)}
        for file in files:
            save_file({name: tensors[name] for name, where in weight_map.items() if where == file}, folder / file)
        (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        return folder

    return write


@pytest.fixture
def write_native(write_transformer: WriteTransformer) -> WriteTransformer:
    """Write a transformer, of which diffusers' configuration and tensors are given, as Wan-AI does."""

    def write(
        folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], shards: int = 1, prefix: str = ""
    ) -> Path:
        native = {f"{prefix}{to_native(name)}": tensor for name, tensor in tensors.items()}
        return write_transformer(folder, native_config(config), native, shards)

    return write


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the model `pocket`, which an installed package brings."""
    site = tmp_path / "site"
    (site / "pocket-1.0.dist-info").mkdir(parents=True)
    (site / "pocket-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pocket\nVersion: 1.0\n")
    (site / "pocket-1.0.dist-info" / "entry_points.txt").write_text("[vq_core.models]\npocket = pocket:folder\n")
    (site / "pocket.py").write_text(
        "from pathlib import Path\n\ndef folder():\n    return Path(__file__).parent / 'model'\n"
    )
    (site / "model").mkdir()
    monkeypatch.delitem(sys.modules, "pocket", raising=False)
    monkeypatch.syspath_prepend(site)
    return site / "model"


@pytest.fixture
def nothing_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package brings a model, not even ours."""
    monkeypatch.setattr("vq_core.discover.entry_points", lambda **_: EntryPoints(()))


@pytest.fixture
def read_llmc(tmp_path: Path) -> Callable[[str], Recipe]:
    """Read the text of an LLMC recipe, from a file named `llmc.yaml`."""

    def read(text: str) -> Recipe:
        path = tmp_path / "llmc.yaml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path)

    return read


@pytest.fixture(scope="session")
def two_samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    """See `samples`."""
    folder = write_samples(tmp_path_factory.mktemp("samples") / "samples", 2, with_images=True)
    return tuple(read_samples(folder, ModelInputs(optional=FILES)))


@pytest.fixture
def samples(two_samples: tuple[Sample, ...]) -> list[Sample]:
    """Two prompts, with a square and with a flat image, and every other file that a model may start from.

    The list is the test's own; its files are not to be changed.
    """
    return list(two_samples)
