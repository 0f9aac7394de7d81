import pytest

from vq_core.topology import Group, Linear, LinearSink, ModulationSink, Topology, block_of, place_of, shard_of


@pytest.fixture
def two_blocks() -> Topology:
    """Two blocks of a modulated linear and a linear that reads it, and something outside."""
    linears, groups, tensors = [], [], {"head.weight": (2, 4)}
    for block in (0, 1):
        up, down = f"blocks.{block}.up", f"blocks.{block}.down"
        linears += [Linear(up, 4, 8), Linear(down, 8, 4)]
        groups += [
            Group(f"{up}.in", (up,), ModulationSink(f"blocks.{block}.norm.gain"), 4),
            Group(f"{down}.in", (down,), LinearSink((up,)), 8),
        ]
        tensors |= {f"{up}.weight": (8, 4), f"{down}.weight": (4, 8)}
    return Topology("test", tensors, tuple(linears), tuple(groups))


def test_lookups(two_blocks: Topology) -> None:
    assert two_blocks.linear("blocks.1.up") == Linear("blocks.1.up", 4, 8)
    assert two_blocks.group_of("blocks.1.down").name == "blocks.1.down.in"
    assert two_blocks.gain_of("blocks.1.up") == "blocks.1.norm.gain"
    assert two_blocks.gain_of("blocks.1.down") is None
    assert two_blocks.gains == {"blocks.0.norm.gain": 4, "blocks.1.norm.gain": 4}


def test_shards_hold_every_tensor_once(two_blocks: Topology) -> None:
    assert two_blocks.shards() == {
        "block_0": ("blocks.0.up.weight", "blocks.0.down.weight"),
        "block_1": ("blocks.1.up.weight", "blocks.1.down.weight"),
        "non_block": ("head.weight",),
    }


def test_weights_of_linears_are_apart_from_what_is_plain() -> None:
    shapes = {"blocks.0.up.weight": (8, 4), "blocks.0.up.bias": (8,), "head.weight": (2, 4)}
    one = Topology("test", shapes, (Linear("blocks.0.up", 4, 8),), ())
    assert one.weights == {"blocks.0.up.weight": "blocks.0.up"}
    assert one.plain_shards() == {"block_0": ("blocks.0.up.bias",), "non_block": ("head.weight",)}


def test_what_is_kept_is_plain(two_blocks: Topology) -> None:
    keeping = two_blocks.keeping({"blocks.1.up"})
    assert [linear.name for linear in keeping.kept] == ["blocks.1.up"]
    assert [linear.name for linear in keeping.linears] == ["blocks.0.up", "blocks.0.down", "blocks.1.down"]
    assert keeping.plain_shards()["block_1"] == ("blocks.1.up.weight",)
    assert keeping.biases == {"blocks.0.up.bias", "blocks.0.down.bias", "blocks.1.down.bias"}
    assert keeping.gain_of("blocks.1.up") == "blocks.1.norm.gain"
    assert two_blocks.keeping(()) == two_blocks


@pytest.mark.parametrize(
    ("tensor", "block", "shard"),
    [
        ("blocks.0.up.weight", 0, "block_0"),
        ("blocks.39.norm2.bias", 39, "block_39"),
        ("head.weight", None, "non_block"),
        ("vace_blocks.3.up.weight", 3, "vace_block_3"),
        ("my_blocks.3.up.weight", None, "non_block"),
        ("vace_patch_embedding.weight", None, "non_block"),
        ("blocks.x.up", None, "non_block"),
    ],
)
def test_block_and_shard_of_a_tensor(tensor: str, block: int | None, shard: str) -> None:
    assert block_of(tensor) == block
    assert shard_of(tensor) == shard


def test_vace_s_blocks_are_a_stack_of_their_own() -> None:
    names = ("head.weight", "blocks.0.up.weight", "blocks.1.up.weight", "vace_blocks.0.up.weight")
    topology = Topology("test", dict.fromkeys(names, (1,)), (), ())
    assert list(topology.shards()) == ["block_0", "block_1", "vace_block_0", "non_block"]
    assert topology.block_shards == ("block_0", "block_1", "vace_block_0")
    assert topology.num_blocks == 3
    assert list(map(place_of, names)) == ["head.weight", "up.weight", "up.weight", "vace_blocks.up.weight"]
    assert Linear("vace_blocks.0.up", 4, 8).shard == "vace_block_0"
