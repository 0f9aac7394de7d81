"""One transformer in three forms, read by the same words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts import checkpoint, weights
from vq_core.artifacts.checkpoint import Role, checkpoint_tensors, open_checkpoint
from vq_core.artifacts.components import component_headers
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.model.transformer_reader import DescribedTransformer
from vq_core.numerics.quantize import Quantized, dequantize, quantize_weight
from vq_core.numerics.scheme import INT8
from vq_core.store.writer import Header, create_artifact
from vq_core.topology import shard_of

Tensors = dict[str, Tensor]
Reader = DescribedTransformer[Tensor | Quantized]


@pytest.fixture
def tensors(t2v_config: Any, random_tensors: Callable[..., Tensors]) -> Tensors:
    return random_tensors(t2v_config)


@pytest.fixture
def readers(tmp_path: Path, t2v_config: Any, tensors: Tensors, write_transformer: Callable[..., Path]) -> list[Reader]:
    """`tensors` as a model as it comes in three files, as smoothed weights with gains of one, as a checkpoint."""
    model = open_source(str(write_transformer(tmp_path / "model", t2v_config, tensors, 3)))
    source, headers = model.components["transformer"], component_headers(model)
    smoothed = tensors | {name: torch.ones(length) for name, length in source.topology.gains.items()}
    with create_artifact(tmp_path / "w", Header(weights.KIND, weights.FORMAT, "t", "wan", "m", headers)) as writer:
        for shard in source.topology.shards():
            content = {name: tensor for name, tensor in smoothed.items() if shard_of(name) == shard}
            writer.write_tensors(f"transformer/{shard}.safetensors", content)
    shards: dict[str, Tensors] = {}
    for name, entry in checkpoint_tensors(source.topology, model.family, gains=False).items():
        if entry.role is Role.PLAIN:
            shards.setdefault(entry.shard, {})[name] = tensors[entry.origin]
        else:
            codes, scale, *_ = quantize_weight(tensors[f"{entry.origin}.weight"], INT8.weight)
            shards.setdefault(entry.shard, {})[name] = codes if entry.role is Role.CODES else scale
    header = Header(checkpoint.KIND, checkpoint.FORMAT, "t", "wan", "m", headers, {"scheme": INT8.name, "gains": False})
    with create_artifact(tmp_path / "c", header) as writer:
        for shard, content in shards.items():
            writer.write_tensors(f"transformer/{shard}.safetensors", content)
    return [
        source,
        open_weights(tmp_path / "w").components["transformer"],
        open_checkpoint(tmp_path / "c").components["transformer"],
    ]


def test_plain_tensors_come_in_the_order_asked_for(readers: list[Reader], tensors: Tensors) -> None:
    for reader in readers:
        for shard, names in reader.topology.plain_shards().items():
            reader.verify(shard)
            found = reader.plain(iter(names[::-1]))
            assert list(found) == list(names[::-1])
            assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.items())


def test_a_linear_is_a_weight_or_codes_and_scale(readers: list[Reader], tensors: Tensors) -> None:
    for linear in readers[0].topology.linears:
        weight = tensors[f"{linear.name}.weight"]
        source, smoothed, converted = (reader.linear(linear.name) for reader in readers)
        assert isinstance(source, Tensor)
        assert torch.equal(source, weight)
        assert isinstance(smoothed, Tensor)
        assert torch.equal(smoothed, weight)
        assert isinstance(converted, Quantized)
        assert torch.equal(dequantize(converted), dequantize(quantize_weight(weight, INT8.weight)))


def test_no_gain_is_none(readers: list[Reader]) -> None:
    source, smoothed, converted = (reader.gain("blocks.1.norm3.gain") for reader in readers)
    assert source is None
    assert converted is None
    assert smoothed is not None
    assert torch.equal(smoothed, torch.ones(64))


def test_all_describe_the_same_model(readers: list[Reader]) -> None:
    source, *others = readers
    for other in others:
        assert (other.config, other.topology, other.fingerprint) == (source.config, source.topology, source.fingerprint)
        assert list(other.lora) == list(source.lora) == []
