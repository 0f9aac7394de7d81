"""Tensors, linears and groups of a Wan transformer, in diffusers' spelling."""

from collections.abc import Mapping
from typing import Any

from vq_core.errors import VqError
from vq_core.families.wan.config import VACE_CLASS, inner_dim, patch_elements
from vq_core.families.wan.kinds import is_vace
from vq_core.topology import Group, Linear, LinearSink, ModulationSink, NormSink, ProjectionSink, Topology, block_of

FAMILY = "wan"
TEXT_GROUP = "text"
IMAGE_GROUP = "image"

MAX_SIZE, MAX_LAYERS = 1 << 20, 1024
"""Of any size, and of the number of blocks."""
_SIZES = (
    "num_attention_heads", "attention_head_dim", "ffn_dim", "in_channels", "out_channels", "text_dim", "freq_dim",
)  # fmt: skip
_OPTIONAL = ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len", "vace_in_channels", "rope_max_seq_len")


def topology(config: Mapping[str, Any]) -> Topology:
    """The topology of the transformer that diffusers' `config` describes.

    Raises:
        VqError: a key is missing or has a value for which the folds and names here were not derived.
    """
    _check(config)
    blocks = [f"blocks.{block}" for block in range(config["num_layers"])]
    vace_blocks = [f"vace_blocks.{block}" for block in range(len(config["vace_layers"]))] if is_vace(config) else []
    tensors = _outer_tensors(config)
    linears: list[Linear] = []
    for block in (*blocks, *vace_blocks):
        block_tensors = _block_tensors(config, block)
        linears += [
            Linear(name.removesuffix(".weight"), shape[1], shape[0])
            for name, shape in block_tensors.items()
            if name.endswith(".weight") and len(shape) == 2
        ]
        tensors |= block_tensors
    for block in vace_blocks:
        tensors |= _vace_projections(config, block)
    groups = [group for block in (*blocks, *vace_blocks) for group in _block_groups(config, block)]
    groups += _context_groups(config, linears)
    return Topology(FAMILY, tensors, tuple(linears), tuple(groups), _across_blocks(groups))


def _check(config: Mapping[str, Any]) -> None:
    required = (
        "num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim", "in_channels", "out_channels",
        "text_dim", "freq_dim", "patch_size", "qk_norm", "cross_attn_norm", "eps",
    )  # fmt: skip
    of_vace = ("vace_layers", "vace_in_channels") if config.get("_class_name") == VACE_CLASS or is_vace(config) else ()
    missing = [key for key in (*required, *of_vace) if key not in config]
    if missing:
        raise VqError(
            f"the transformer's config.json lacks {', '.join(missing)}: use the file that came with the model."
        )
    _check_sizes(config)
    if (config.get("image_dim") is None) != (config.get("added_kv_proj_dim") is None):
        raise VqError(
            "config.json has one of image_dim and added_kv_proj_dim without the other, "
            "and an image encoder needs both: use the file that came with the model."
        )
    if config["qk_norm"] != "rms_norm_across_heads":
        raise VqError(
            f"config.json says qk_norm={config['qk_norm']!r}, and only 'rms_norm_across_heads' is known for Wan."
        )


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Refuse numbers that no transformer has: all that is made of a configuration grows with them."""
    optional = [name for name in _OPTIONAL if config.get(name) is not None]
    for name in (*_SIZES, *optional):
        _require_numbers(name, config[name], range(1, MAX_SIZE + 1))
    _require_numbers("num_layers", config["num_layers"], range(1, MAX_LAYERS + 1))
    _require_numbers("patch_size", config["patch_size"], range(1, MAX_SIZE + 1), length=3)
    if is_vace(config):
        layers = config["vace_layers"]
        length = len(layers) if isinstance(layers, list | tuple) and 0 < len(layers) <= MAX_LAYERS else MAX_LAYERS
        _require_numbers("vace_layers", layers, range(config["num_layers"]), length)
    if type(config["eps"]) not in (int, float) or not 0 < config["eps"] < 1:
        raise VqError(f"config.json says eps={config['eps']!r:.80}: use the file that came with the model.")


def _require_numbers(name: str, said: Any, allowed: range, length: int | None = None) -> None:
    """Refuse what is `said` if it is no number of `allowed`, or with a `length`, no list of as many of them."""
    numbers = [said] if length is None else said
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != (length or 1)
        or any(type(number) is not int or number not in allowed for number in numbers)
    ):
        raise VqError(
            f"config.json says {name}={said!r:.80}, and whole numbers of {allowed.start} to {allowed.stop - 1} are "
            "needed: use the file that came with the model."
        )


def _linear(name: str, out_features: int, in_features: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out_features, in_features), f"{name}.bias": (out_features,)}


def _norm(name: str, features: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (features,), f"{name}.bias": (features,)}


def _outer_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    dim = inner_dim(config)
    patch = tuple(config["patch_size"])
    embedder = "condition_embedder"
    tensors = {
        "patch_embedding.weight": (dim, config["in_channels"], *patch),
        "patch_embedding.bias": (dim,),
        **_linear(f"{embedder}.text_embedder.linear_1", dim, config["text_dim"]),
        **_linear(f"{embedder}.text_embedder.linear_2", dim, dim),
        **_linear(f"{embedder}.time_embedder.linear_1", dim, config["freq_dim"]),
        **_linear(f"{embedder}.time_embedder.linear_2", dim, dim),
        **_linear(f"{embedder}.time_proj", 6 * dim, dim),
        **_linear("proj_out", config["out_channels"] * patch_elements(config), dim),
        "scale_shift_table": (1, 2, dim),
    }
    if is_vace(config):
        tensors["vace_patch_embedding.weight"] = (dim, config["vace_in_channels"], *patch)
        tensors["vace_patch_embedding.bias"] = (dim,)
    image_dim = config.get("image_dim")
    if image_dim is not None:
        image = f"{embedder}.image_embedder"
        tensors |= _norm(f"{image}.norm1", image_dim)
        tensors |= _linear(f"{image}.ff.net.0.proj", image_dim, image_dim)
        tensors |= _linear(f"{image}.ff.net.2", dim, image_dim)
        tensors |= _norm(f"{image}.norm2", dim)
        if config.get("pos_embed_seq_len") is not None:
            tensors[f"{image}.pos_embed"] = (1, config["pos_embed_seq_len"], image_dim)
    return tensors


def _vace_projections(config: Mapping[str, Any], block: str) -> dict[str, tuple[int, ...]]:
    """What a VACE block has besides; runtimes keep these linears in full precision."""
    dim = inner_dim(config)
    projections = _linear(f"{block}.proj_out", dim, dim)
    return projections | _linear(f"{block}.proj_in", dim, dim) if block == "vace_blocks.0" else projections


def _block_tensors(config: Mapping[str, Any], block: str) -> dict[str, tuple[int, ...]]:
    dim, ffn_dim = inner_dim(config), config["ffn_dim"]
    tensors: dict[str, tuple[int, ...]] = {f"{block}.scale_shift_table": (1, 6, dim)}
    for attention in ("attn1", "attn2"):
        for linear in ("to_q", "to_k", "to_v", "to_out.0"):
            tensors |= _linear(f"{block}.{attention}.{linear}", dim, dim)
        tensors[f"{block}.{attention}.norm_q.weight"] = (dim,)
        tensors[f"{block}.{attention}.norm_k.weight"] = (dim,)
    if config.get("added_kv_proj_dim") is not None:
        for linear in ("add_k_proj", "add_v_proj"):
            tensors |= _linear(f"{block}.attn2.{linear}", dim, config["added_kv_proj_dim"])
        tensors[f"{block}.attn2.norm_added_k.weight"] = (dim,)
    if config["cross_attn_norm"]:
        tensors |= _norm(f"{block}.norm2", dim)
    tensors |= _linear(f"{block}.ffn.net.0.proj", ffn_dim, dim)
    tensors |= _linear(f"{block}.ffn.net.2", dim, ffn_dim)
    return tensors


def _block_groups(config: Mapping[str, Any], block: str) -> list[Group]:
    dim, ffn_dim = inner_dim(config), config["ffn_dim"]
    attn1, attn2, ffn = f"{block}.attn1", f"{block}.attn2", f"{block}.ffn"
    values = [f"{attn2}.to_v"]
    if config.get("added_kv_proj_dim") is not None:
        # The outputs of text and image attention are added before to_out, so both value projections take the gain.
        values.append(f"{attn2}.add_v_proj")
    cross_norm = NormSink(f"{block}.norm2") if config["cross_attn_norm"] else None
    qkv = (f"{attn1}.to_q", f"{attn1}.to_k", f"{attn1}.to_v")
    return [
        Group(f"{attn1}.qkv", qkv, ModulationSink(f"{block}.norm1.gain"), dim),
        Group(f"{attn1}.out", (f"{attn1}.to_out.0",), LinearSink((f"{attn1}.to_v",)), dim),
        Group(f"{attn2}.q", (f"{attn2}.to_q",), cross_norm, dim),
        Group(f"{attn2}.out", (f"{attn2}.to_out.0",), LinearSink(tuple(values)), dim),
        Group(f"{ffn}.up", (f"{ffn}.net.0.proj",), ModulationSink(f"{block}.norm3.gain"), dim),
        # GELU stands between the two feed-forward linears, so no exact fold exists.
        Group(f"{ffn}.down", (f"{ffn}.net.2",), None, ffn_dim, gelu_sink=LinearSink((f"{ffn}.net.0.proj",))),
    ]  # fmt: skip


def _context_groups(config: Mapping[str, Any], linears: list[Linear]) -> list[Group]:
    """The embedded text and image are the same for every block, so each has one gain for the whole model."""
    text = tuple(linear.name for linear in linears if linear.name.endswith(("attn2.to_k", "attn2.to_v")))
    embedded = LinearSink(("condition_embedder.text_embedder.linear_2",))
    groups = [Group(TEXT_GROUP, text, embedded, inner_dim(config), sequence="text")]
    image = tuple(linear.name for linear in linears if linear.name.endswith(("attn2.add_k_proj", "attn2.add_v_proj")))
    if image:
        sink = NormSink("condition_embedder.image_embedder.norm2")
        groups.append(Group(IMAGE_GROUP, image, sink, config["added_kv_proj_dim"], sequence="image"))
    return groups


def _across_blocks(groups: list[Group]) -> tuple[Group, ...]:
    """The first norm of every block, and the third: the time projection gives both their scale and their shift."""
    across = []
    for name, norm, shift in (("across.attn1.qkv", "norm1", 0), ("across.ffn.up", "norm3", 3)):
        gains = {
            group: group.sink.gain
            for group in groups
            if isinstance(group.sink, ModulationSink) and group.sink.gain.endswith(f".{norm}.gain")
        }
        tables = tuple(gain.replace(f"{norm}.gain", "scale_shift_table") for gain in gains.values())
        sink = ProjectionSink("condition_embedder.time_proj", tables, scale=shift + 1, shift=shift)
        members = tuple(gains)
        reads = tuple(linear for group in members for linear in group.reads)
        across.append(Group(name, reads, sink, members[0].in_features, members=members))
    return tuple(across)


def llmc_groups(topology: Topology) -> tuple[Group, ...]:
    """The groups that LLMC smooths: norm1 → q,k,v; norm2 → cross q; norm3 → ffn.0, in every block."""
    return tuple(
        group
        for group in topology.groups
        if block_of(group.name) is not None and isinstance(group.sink, ModulationSink | NormSink)
    )
