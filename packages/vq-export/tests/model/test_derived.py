"""Every form of a transformer is read in one way, whatever it lies in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.model.transformer_reader import DescribedTransformer
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import INT8, Rounding
from vq_export.model.derived import Derived
from vq_export.model.quantized_model import QuantizedTransformer, from_artifacts, from_source
from vq_export.model.quantized_source import open_quantized_source

Reader = DescribedTransformer[Tensor | Quantized]
QUANTIZED = ("rounded weights", "rounded source", "codes of LLMC")


@pytest.fixture
def quantized(
    models: dict[str, Path], smoothed_i2v: dict[str, Any], by_llmc: Callable[..., Path]
) -> Callable[[str], QuantizedTransformer]:
    """`quantized(form)`: one of `QUANTIZED`."""

    def open_form(form: str) -> QuantizedTransformer:
        made = smoothed_i2v["int8"]
        if form == "rounded weights":
            model = from_artifacts(open_weights(made.weights), open_qparams(made.qparams))
        elif form == "rounded source":
            model = from_source(open_source(str(models["i2v"])), INT8, Rounding.NEAREST_EVEN)
        else:
            stored = open_quantized_source(str(by_llmc("i2v", "int8")))
            assert stored is not None
            model = stored
        return model.components["transformer"]

    return open_form


def check(reader: Reader) -> None:
    topology = reader.topology
    for shard, names in topology.plain_shards().items():
        reader.verify(shard)
        backwards = list(reversed(names))
        tensors = reader.plain(iter(backwards))
        assert list(tensors) == backwards
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()}.items() <= topology.tensors.items()
    for linear in topology.linears:
        weight = reader.linear(linear.name)
        shape = (linear.out_features, linear.in_features)
        if isinstance(weight, Quantized):
            assert (weight.codes.shape, weight.scale.shape) == (shape, (linear.out_features, 1))
        else:
            assert weight.shape == shape
    gains = {name: reader.gain(name) for name in topology.gains}
    assert len({gain is None for gain in gains.values()}) == 1
    for name, gain in gains.items():
        assert gain is None or (gain.dtype, gain.shape) == (torch.float32, (topology.gains[name],))
    assert (reader.config["in_channels"], len(reader.fingerprint), list(reader.lora)) == (36, 64, [])


@pytest.mark.parametrize("form", ["source", "smoothed by LLMC", "smoothed", "converted", *QUANTIZED])
def test_every_form_is_read_in_one_way(
    form: str,
    models: dict[str, Path],
    smoothed_i2v: dict[str, Any],
    checkpoints: dict[str, Path],
    by_llmc: Callable[..., Path],
    quantized: Callable[[str], QuantizedTransformer],
) -> None:
    if form == "source":
        check(open_source(str(models["i2v"])).components["transformer"])
    elif form == "smoothed by LLMC":
        check(open_source(str(by_llmc("i2v", None))).components["transformer"])
    elif form == "smoothed":
        check(open_weights(smoothed_i2v["int8"].weights).components["transformer"])
    elif form == "converted":
        check(open_checkpoint(checkpoints["int8-smoothed"]).components["transformer"])
    else:
        check(quantized(form))


@pytest.mark.parametrize("form", QUANTIZED)
def test_what_was_rounded_is_the_same_but_for_its_linears(
    form: str, quantized: Callable[[str], QuantizedTransformer]
) -> None:
    rounded = quantized(form)
    linear = "blocks.1.ffn.net.2"
    names = [f"{linear}.bias", f"{linear}.weight", "blocks.0.norm2.weight"]
    tensors = rounded.unrounded.plain(names)
    assert list(tensors) == names
    weight = rounded.unrounded.linear(linear)
    assert torch.equal(tensors[names[1]], weight)
    codes, scale = rounded.linear(linear)
    assert bool(((codes.float() * scale - weight.float()).abs() <= scale * 0.51).all())
    same = rounded.plain([names[0], names[2]])
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in same.items())
    gain, ours = (it.gain("blocks.0.norm1.gain") for it in (rounded, rounded.unrounded))
    assert (gain is None and ours is None) or (gain is not None and ours is not None and torch.equal(gain, ours))


@pytest.mark.parametrize("damaged", ["weights", "qparams"])
def test_both_artifacts_are_verified(damaged: str, models: dict[str, Path], make_artifacts: Callable[..., Any]) -> None:
    made = make_artifacts(models["t2v"])
    model = from_artifacts(open_weights(made.weights), open_qparams(made.qparams))
    (path, *_) = sorted((getattr(made, damaged) / "transformer").glob("block*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(VqError, match=r"block.*\.safetensors is not the file that was written"):
        model.components["transformer"].verify("block_0")


def test_a_derived_transformer_keeps_what_describes_it(models: dict[str, Path]) -> None:
    origin = open_source(str(models["i2v"])).components["transformer"]
    derived = Derived(origin)
    assert (derived.config, derived.topology, derived.fingerprint) == (
        origin.config,
        origin.topology,
        origin.fingerprint,
    )
