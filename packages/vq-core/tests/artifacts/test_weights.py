from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts import weights
from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.comfyui_checkpoint import NATIVE_KIND, open_comfyui_checkpoint
from vq_core.artifacts.decisions import write_decided
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.families.wan import topology
from vq_core.store.writer import ComponentHeader, Header, create_artifact

RandomTensors = Callable[..., dict[str, Tensor]]


@pytest.fixture
def smoothed(tmp_path: Path, i2v_config: dict[str, Any], random_tensors: RandomTensors) -> Path:
    """Random weights with gains of the block's number plus one half."""
    header = Header(
        weights.KIND, weights.FORMAT, "t", "wan", "m", {"transformer": ComponentHeader("transformer", "f", i2v_config)}
    )
    wan, tensors = topology(i2v_config), random_tensors(i2v_config)
    with create_artifact(tmp_path / "smoothed", header) as writer:
        for shard, names in wan.shards().items():
            content = {name: tensors[name] for name in names}
            prefix = shard.replace("block_", "blocks.") + "."
            for gain, length in wan.gains.items():
                if gain.startswith(prefix):
                    content[gain] = torch.full((length,), int(shard[-1]) + 0.5)
            decisions = {f"{prefix}group": {"alpha": 0.75}}
            write_decided(writer, f"transformer/{shard}.safetensors", content, decisions)
    return tmp_path / "smoothed"


def test_reads_like_a_checkpoint(smoothed: Path, i2v_config: dict[str, Any], random_tensors: RandomTensors) -> None:
    opened = open_weights(smoothed)
    assert isinstance(opened, SmoothedWeights)
    assert opened.family_name == "wan"
    assert opened.family.COMPONENTS[0] == "transformer"
    component = opened.components["transformer"]
    assert (component.config, component.fingerprint) == (i2v_config, "f")
    assert component.topology == topology(i2v_config)
    expected = random_tensors(i2v_config)
    loaded = component.plain(expected)
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())
    assert torch.equal(component.linear("blocks.1.ffn.net.2"), expected["blocks.1.ffn.net.2.weight"])
    gains = {name: component.gain(name) for name in component.topology.gains}
    assert {name: float(gain.mean()) for name, gain in gains.items()} == {
        "blocks.0.norm1.gain": 0.5,
        "blocks.0.norm3.gain": 0.5,
        "blocks.1.norm1.gain": 1.5,
        "blocks.1.norm3.gain": 1.5,
    }


def test_decisions_of_all_files(smoothed: Path) -> None:
    alpha = {"alpha": 0.75}
    assert open_weights(smoothed).decisions("transformer") == {
        "blocks.0.group": alpha,
        "blocks.1.group": alpha,
        "non_block.group": alpha,
    }


@pytest.mark.parametrize(
    ("kind", "older", "open_it"),
    [
        ("activation-stats", 1, open_stats),  # format 1 had further sums
        ("smoothed-weights", 0, open_weights),
        ("quant-params", 5, open_qparams),
        ("lightx2v-checkpoint", 0, open_checkpoint),
        ("comfyui-checkpoint", 0, open_comfyui_checkpoint),
        ("native-checkpoint", 1, partial(open_comfyui_checkpoint, kind=NATIVE_KIND)),
    ],
)
def test_every_kind_refuses_the_others_and_other_formats(
    tmp_path: Path, kind: str, older: int, open_it: Callable[[Path], object]
) -> None:
    for header, sentence in (
        (Header("videos", older + 1, "t", "wan", "m", {}), f"holds videos, and {kind} is needed here"),
        (
            Header(kind, older, "t", "wan", "m", {}),
            f"{kind} format {older} and this version reads {older + 1}: make it",
        ),
        (Header(kind, older + 2, "t", "wan", "m", {}), f"this version reads {older + 1}: upgrade vq-core"),
    ):
        path = tmp_path / f"{header.kind} {header.format}"
        with create_artifact(path, header):
            pass
        with pytest.raises(VqError, match=sentence):
            open_it(path)
