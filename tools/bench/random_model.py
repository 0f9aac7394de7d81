"""A transformer of random weights on disk, of any size, and random tokens that its linears could read."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.families import wan
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.topology import block_of


def write_model(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a random bfloat16 checkpoint with one file per block to the new `folder`; all blocks are the same."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    topology = wan.topology(config)
    weight_map: dict[str, str] = {}
    block: dict[str, Tensor] = {}  # drawing takes longer than writing
    for shard, names in topology.shards().items():
        tensors: dict[str, Tensor] = {}
        for name in names:
            place = name.replace(f"blocks.{block_of(name)}.", "blocks.0.")
            if place not in block:
                block[place] = torch.randn(topology.tensors[name], dtype=torch.bfloat16) * 0.02
            tensors[name] = block[place]
        save_file(tensors, folder / f"{shard}.safetensors")
        weight_map |= dict.fromkeys(names, f"{shard}.safetensors")
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def loud_tokens(count: int, width: int, generator: torch.Generator) -> Tensor:
    """Correlated tokens with a few loud channels, bf16 `[count, width]`, on the generator's device."""
    randn = partial(torch.randn, generator=generator, device=generator.device)
    causes = max(1, width // 8)
    x = randn(count, causes) @ randn(causes, width) / causes**0.5
    x += 0.3 * randn(count, width)
    x[:, :4] *= 20
    return x.bfloat16()
