"""The table of a checkpoint's tensors, and reading one back by diffusers' names."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts import checkpoint
from vq_core.artifacts.checkpoint import ConvertedCheckpoint, Role, checkpoint_tensors, open_checkpoint
from vq_core.errors import VqError
from vq_core.families import family_named
from vq_core.families.wan import topology
from vq_core.store.writer import ComponentHeader, Header, create_artifact

WAN = family_named("wan")


def write(folder: Path, config: dict[str, Any], gains: bool, components: tuple[str, ...] = ("transformer",)) -> Path:
    """A checkpoint whose every tensor is a constant: its number in the table, modulo 100."""
    folders = WAN.expert_folders(components)
    header = Header(
        checkpoint.KIND,
        checkpoint.FORMAT,
        "t",
        "wan",
        "m",
        {name: ComponentHeader(place, "f", config) for name, place in folders.items()},
        {"scheme": "int8", "gains": gains},
    )
    with create_artifact(folder, header) as writer:
        for component_number, place in enumerate(folders.values()):
            shards: dict[str, dict[str, torch.Tensor]] = {}
            for number, (name, entry) in enumerate(checkpoint_tensors(topology(config), WAN, gains=gains).items()):
                dtype = torch.int8 if entry.role is Role.CODES else torch.float32
                value = (number + component_number) % 100
                shards.setdefault(entry.shard, {})[name] = torch.full(entry.shape, value, dtype=dtype)
            for shard, tensors in shards.items():
                writer.write_tensors(f"{place}/{shard}.safetensors".lstrip("/"), tensors)
    return folder


def test_table_of_the_fullest_block(i2v_config: dict[str, Any]) -> None:
    entries = checkpoint_tensors(topology(i2v_config), WAN, gains=True)
    block = {name: entry for name, entry in entries.items() if name.startswith("blocks.1.")}
    assert {entry.shard for entry in block.values()} == {"block_1"}
    by_role = Counter(entry.role for entry in block.values())
    # 12 biases, the table of modulation, 5 norms of queries and keys, the affine norm's weight and bias.
    assert by_role == {Role.CODES: 12, Role.SCALE: 12, Role.GAIN: 4, Role.PLAIN: 12 + 1 + 5 + 2}
    stems = ("self_attn", "cross_attn")
    quantized = [f"blocks.1.{stem}.{linear}" for stem in stems for linear in "qkvo"]
    quantized += [f"blocks.1.{name}" for name in ("cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2")]
    assert {name for name, entry in block.items() if entry.role is Role.CODES} == {
        f"{stem}.weight" for stem in quantized
    }
    assert {name for name, entry in block.items() if entry.role is Role.SCALE} == {
        f"{stem}.weight_scale" for stem in quantized
    }
    assert {name: (entry.origin, entry.shape) for name, entry in block.items() if entry.role is Role.GAIN} == {
        f"blocks.1.affine_{norm}.{part}": (f"blocks.1.{norm}.gain", (64,))
        for norm in ("norm1", "norm3")
        for part in ("weight", "bias")
    }
    up = block["blocks.1.ffn.0.weight"]
    assert (up.origin, up.shape, block["blocks.1.ffn.0.weight_scale"].shape) == (
        "blocks.1.ffn.net.0.proj",
        (160, 64),
        (160, 1),
    )


def test_outside_the_blocks_nothing_is_quantized(i2v_config: dict[str, Any]) -> None:
    entries = checkpoint_tensors(topology(i2v_config), WAN, gains=True)
    outside = {name: entry for name, entry in entries.items() if not name.startswith("blocks.")}
    assert {(entry.role, entry.shard) for entry in outside.values()} == {(Role.PLAIN, "non_block")}
    assert {"head.head.weight", "head.modulation", "img_emb.proj.4.bias", "text_embedding.2.weight"} <= outside.keys()


def test_the_table_has_every_tensor_of_every_layout(wan_config: dict[str, Any]) -> None:
    wan = topology(wan_config)
    entries = checkpoint_tensors(wan, WAN, gains=False)
    assert len(entries) == len(wan.tensors) + len(wan.linears)
    assert len(checkpoint_tensors(wan, WAN, gains=True)) == len(entries) + 2 * len(wan.gains)
    assert not any(entry.role is Role.GAIN for entry in entries.values())


@pytest.mark.parametrize("gains", [True, False])
def test_reads_back_by_diffusers_names(tmp_path: Path, i2v_config: dict[str, Any], gains: bool) -> None:
    opened = open_checkpoint(write(tmp_path / "ckpt", i2v_config, gains))
    assert isinstance(opened, ConvertedCheckpoint)
    assert (opened.family_name, opened.scheme, opened.has_gains) == ("wan", "int8", gains)
    component = opened.components["transformer"]
    numbers = {name: number % 100 for number, name in enumerate(component.entries)}

    linear = component.linear("blocks.1.attn2.add_v_proj")
    assert (linear.codes.shape, linear.scale.shape) == ((64, 64), (64, 1))
    assert linear.codes.unique().tolist() == [numbers["blocks.1.cross_attn.v_img.weight"]]
    assert linear.scale.unique().tolist() == [numbers["blocks.1.cross_attn.v_img.weight_scale"]]

    shards = component.topology.plain_shards()
    plain = component.plain(name for names in shards.values() for name in names)
    assert plain.keys() == component.topology.tensors.keys() - component.topology.weights
    assert plain["blocks.0.norm2.weight"].unique().tolist() == [numbers["blocks.0.norm3.weight"]]
    assert all(tensor.shape == component.topology.tensors[name] for name, tensor in plain.items())

    gain = component.gain("blocks.1.norm3.gain")
    assert (gain is not None) is gains
    assert component.gain("blocks.9.norm3.gain") is None


def test_experts_lie_in_their_own_folders(tmp_path: Path, t2v_config: dict[str, Any]) -> None:
    folder = write(tmp_path / "ckpt", t2v_config, True, ("transformer", "transformer_2"))
    assert (folder / "high_noise_model" / "block_0.safetensors").exists()
    components = open_checkpoint(folder).components
    name = "blocks.0.ffn.net.2"
    high, low = (
        components[component].linear(name).codes[0, 0].item() for component in ("transformer", "transformer_2")
    )
    assert low == high + 1


def test_one_shard_can_be_verified_before_it_is_read(tmp_path: Path, t2v_config: dict[str, Any]) -> None:
    path = write(tmp_path / "checkpoint", t2v_config, gains=False)
    file = path / "block_1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    component = open_checkpoint(path).components["transformer"]
    component.verify("block_0")
    with pytest.raises(VqError, match=r"block_1\.safetensors is not the file that was written"):
        component.verify("block_1")
