"""Models are read tensor by tensor, and everything that is wrong with one is said before anything is written."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from vq_core.errors import VqError
from vq_core.families.wan import topology as wan_topology
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.model.source import TRANSFORMER_FILES, SourceTransformer, open_source, resolve_model

RandomTensors = Callable[..., dict[str, torch.Tensor]]
WriteTransformer = Callable[..., Path]

SINGLE = "diffusion_pytorch_model.safetensors"

# Anonymous memory (not the mapped files) while every tensor of a checkpoint is read in turn.
READ_ALL = """
import sys
from pathlib import Path
import torch
from vq_core.model.source import open_source

def anonymous_bytes():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

source = open_source(sys.argv[1])
checkpoint = source.components["transformer"]
names = list(checkpoint.topology.tensors)
sum(float(t.float().sum()) for t in checkpoint.plain(names[:1]).values())
before = peak = anonymous_bytes()
for name in names:
    tensors = checkpoint.plain([name])
    tensors[name].view(torch.int16).max()  # touches every page
    peak = max(peak, anonymous_bytes())
checkpoint.fingerprint
print(max(peak, anonymous_bytes()) - before)
"""


@pytest.fixture
def transformer(
    tmp_path: Path, i2v_config: dict[str, Any], random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> Path:
    """A transformer folder in one file."""
    return write_transformer(tmp_path / "single", i2v_config, random_tensors(i2v_config))


@pytest.fixture
def sharded(
    tmp_path: Path, i2v_config: dict[str, Any], random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> Path:
    """The same tensors in three shards."""
    return write_transformer(tmp_path / "sharded", i2v_config, random_tensors(i2v_config), shards=3)


def transformer_in(folder: Path) -> SourceTransformer:
    """The one transformer of a folder."""
    (checkpoint,) = open_source(str(folder)).components.values()
    return checkpoint


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of a single file; None removes one. Names are spelt with `__` for a dot."""
    tensors = load_file(folder / SINGLE)
    for spelling, tensor in changes.items():
        name = spelling.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / SINGLE)


@pytest.mark.parametrize("layout", ["transformer", "sharded"])
def test_reads_every_tensor(
    layout: str, request: pytest.FixtureRequest, i2v_config: dict[str, Any], random_tensors: RandomTensors
) -> None:
    source = open_source(str(request.getfixturevalue(layout)))
    checkpoint = source.components["transformer"]
    expected = random_tensors(i2v_config)
    assert (source.family_name, checkpoint.config) == ("wan", i2v_config)
    loaded = checkpoint.plain(expected)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())
    assert checkpoint.dtype("proj_out.bias") == "BF16"


def test_a_pipeline_has_the_transformers_that_it_lists(
    tmp_path: Path, t2v_config: dict[str, Any], random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> None:
    for seed, name in enumerate(("transformer", "transformer_2")):
        write_transformer(tmp_path / name, t2v_config, random_tensors(t2v_config, seed=seed))
    index = {"_class_name": "WanPipeline", "boundary_ratio": 0.9, "vae": ["diffusers", "AutoencoderKLWan"]}
    both = {name: ["diffusers", "WanTransformer3DModel"] for name in ("transformer", "transformer_2")}
    (tmp_path / "model_index.json").write_text(json.dumps(index | both))
    source = open_source(str(tmp_path))
    assert list(source.components) == ["transformer", "transformer_2"]
    assert len(set(source.fingerprints.values())) == 2
    (tmp_path / "model_index.json").write_text(json.dumps(index | both | {"transformer_2": [None, None]}))
    assert list(open_source(str(tmp_path)).components) == ["transformer"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert list(open_source(str(tmp_path)).components) == ["transformer", "transformer_2"]


def test_unused_query_norms_of_published_checkpoints_are_ignored(transformer: Path) -> None:
    rewrite(transformer, blocks__0__attn2__norm_added_q__weight=torch.ones(64))
    assert (
        "blocks.0.attn2.norm_added_q.weight"
        not in open_source(str(transformer)).components["transformer"].topology.tensors
    )


# --- Hub ids ------------------------------------------------------------------------------------


def test_a_hub_id_is_fetched_without_what_is_not_needed(transformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str] | None]] = []

    def snapshot_download(
        repo: str, allow_patterns: list[str] | None = None, ignore_patterns: list[str] | None = None
    ) -> str:
        asked.append((repo, allow_patterns))
        return str(transformer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    source = open_source("Wan-AI/Wan2.1-Example")
    assert (source.name, source.path) == ("Wan-AI/Wan2.1-Example", transformer)
    assert resolve_model("Wan-AI/Wan2.1-Example") == transformer
    assert asked == [
        ("Wan-AI/Wan2.1-Example", TRANSFORMER_FILES),
        ("Wan-AI/Wan2.1-Example", None),
    ]


def test_only_the_transformers_of_a_hub_id_are_fetched() -> None:
    shard = "diffusion_pytorch_model-00001-of-00007.safetensors"
    diffusers = ["model_index.json", "vae/config.json", "transformer/config.json", f"transformer_2/{shard}"]
    native = ["config.json", shard, INDEX_FILE, "high_noise_model/config.json", f"low_noise_model/{shard}"]
    others = [
        f"vae/{shard}",
        "text_encoder/model.safetensors",
        "Wan2.1_VAE.pth",
        "google/umt5-xxl/x",
    ]
    found = filter_repo_objects([*diffusers, *native, *others], allow_patterns=TRANSFORMER_FILES)
    assert list(found) == [*diffusers, *native]


def test_refuses_a_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo: str, allow_patterns: list[str] | None = None, ignore_patterns: None = None) -> str:
        raise LocalEntryNotFoundError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(VqError, match=r"could not be had from the hub \(no network\): check name and network"):
        open_source("nobody/nothing")


def test_refuses_an_id_that_the_hub_does_not_allow() -> None:
    with pytest.raises(VqError, match="could not be had from the hub"):
        open_source("-a..b/c--d")


@pytest.mark.parametrize("model", ["no/such/folder", "nothing", "/absent", __file__])
def test_refuses_what_is_neither_folder_nor_id(model: str) -> None:
    with pytest.raises(VqError, match="neither a folder nor a hub id"):
        open_source(model)


# --- Damaged and unfitting models ---------------------------------------------------------------


def second_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[1]


def without_one_tensor(folder: Path) -> None:
    """Write the first shard again without its first tensor, which the index still names."""
    shard = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    del tensors[min(tensors)]
    save_file(tensors, shard)


def of_class(name: str | None) -> Callable[[Path], object]:
    """Write another class into the configuration."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"_class_name": name}))

    return change


def with_tensors(**changes: torch.Tensor | None) -> Callable[[Path], object]:
    """Replace tensors of a single file, see `rewrite`."""
    return lambda folder: rewrite(folder, **changes)


REFUSALS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "configuration that is not JSON": (
        "transformer",
        lambda folder: (folder / "config.json").write_text("{"),
        r"config\.json is not JSON",
    ),
    "configuration that is a list": (
        "transformer",
        lambda folder: (folder / "config.json").write_text("[]"),
        r"config\.json is not a JSON object",
    ),
    "another family": ("transformer", of_class("FluxTransformer2DModel"), r"which no family here \(wan\) knows"),
    "another native family": ("transformer", of_class("WanModel_S2V"), r"which no family here \(wan\) knows"),
    "no class": ("transformer", of_class(None), r"which no family here \(wan\) knows"),
    "no weights": (
        "transformer",
        lambda folder: (folder / SINGLE).rename(folder / "diffusion_pytorch_model.bin"),
        "holds no safetensors file",
    ),
    "missing shard": (
        "sharded",
        lambda folder: second_shard(folder).unlink(),
        r"00002-of-00003\.safetensors is missing",
    ),
    "missing shard that no index names": (
        "sharded",
        lambda folder: (second_shard(folder).unlink(), (folder / INDEX_FILE).unlink()),
        r"00002-of-00003\.safetensors is missing",
    ),
    "truncated shard": (
        "sharded",
        lambda folder: os.truncate(second_shard(folder), second_shard(folder).stat().st_size - 10),
        r"00002-of-00003\.safetensors has .*truncated or damaged",
    ),
    "shard that lacks what the index promises": ("sharded", without_one_tensor, r"` is not in \S+-00001-of-00003\."),
    "index without a map": (
        "sharded",
        lambda folder: (folder / INDEX_FILE).write_text("{}"),
        "has no weight_map",
    ),
    "stale second file": (
        "transformer",
        lambda folder: save_file({"proj_out.bias": torch.ones(1)}, folder / "old.safetensors"),
        rf"`proj_out\.bias` is in {SINGLE} and in old\.safetensors.*give the file that you mean",
    ),
    "missing tensor": (
        "transformer",
        with_tensors(blocks__1__ffn__net__2__bias=None),
        r"lacks the tensor `blocks\.1\.ffn\.net\.2\.bias`",
    ),
    "misshapen tensor": (
        "transformer",
        with_tensors(blocks__1__norm2__weight=torch.ones(63)),
        r"`blocks\.1\.norm2\.weight` .*is \[63\] and should be \[64\]",
    ),
    "unknown tensor": (
        "transformer",
        with_tensors(blocks__2__norm2__weight=torch.ones(64)),
        r"`blocks\.2\.norm2\.weight` .*not part of the architecture \(1 such tensors\)",
    ),
    "quantized": (
        "transformer",
        with_tensors(blocks__0__attn1__to_q__weight=torch.ones(64, 64).to(torch.float8_e4m3fn)),
        r"is quantized already, by a cast to FP8 without scales \(`blocks\.0\.attn1\.to_q\.weight`",
    ),
}


@pytest.mark.parametrize(("layout", "damage", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_in_one_sentence(
    request: pytest.FixtureRequest, layout: str, damage: Callable[[Path], object], sentence: str
) -> None:
    folder: Path = request.getfixturevalue(layout)
    damage(folder)
    with pytest.raises(VqError, match=sentence):
        open_source(str(folder))


def test_refuses_folders_without_a_transformer(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="is not a model that is read here"):
        open_source(str(tmp_path))
    (tmp_path / "model_index.json").write_text(json.dumps({"transformer": ["diffusers", "WanTransformer3DModel"]}))
    with pytest.raises(VqError, match=r"transformer/config\.json is missing"):
        open_source(str(tmp_path))


def test_an_index_says_which_of_two_files_counts(sharded: Path) -> None:
    before = transformer_in(sharded).fingerprint
    save_file({"proj_out.bias": torch.ones(1)}, sharded / "old.safetensors")
    assert transformer_in(sharded).fingerprint == before


# --- Fingerprint and memory ---------------------------------------------------------------------


def test_fingerprint_is_independent_of_sharding(transformer: Path, sharded: Path) -> None:
    assert transformer_in(transformer).fingerprint == transformer_in(sharded).fingerprint


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("name", ["blocks.1.ffn.net.2.weight", "proj_out.bias"])
def test_fingerprint_sees_one_changed_weight(transformer: Path, name: str, position: int) -> None:
    before = transformer_in(transformer).fingerprint
    changed = load_file(transformer / SINGLE)[name].clone()
    changed.view(-1)[position] += 1
    rewrite(transformer, **{name.replace(".", "__"): changed})
    assert transformer_in(transformer).fingerprint != before


def test_fingerprint_sees_the_dtype(
    tmp_path: Path, t2v_config: dict[str, Any], random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> None:
    folders = [
        write_transformer(tmp_path / str(dtype), t2v_config, random_tensors(t2v_config, dtype))
        for dtype in (torch.bfloat16, torch.float32)
    ]
    assert transformer_in(folders[0]).fingerprint != transformer_in(folders[1]).fingerprint


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_never_holds_the_model_in_memory(
    tmp_path: Path,
    t2v_config: dict[str, Any],
    write_transformer: WriteTransformer,
    start_code: Callable[[str], Any],
) -> None:
    config = t2v_config | {"num_attention_heads": 32, "ffn_dim": 4096, "num_layers": 12}
    tensors = {name: torch.ones(shape, dtype=torch.bfloat16) for name, shape in wan_topology(config).tensors.items()}
    folder = write_transformer(tmp_path / "t", config, tensors)
    size = (folder / SINGLE).stat().st_size
    assert size > 150e6
    read = start_code(f"import sys\nsys.argv = {['', str(folder)]}\n{READ_ALL}")
    assert read.ended(120) == 0, read.stderr
    assert int(read.stdout) < 50e6
