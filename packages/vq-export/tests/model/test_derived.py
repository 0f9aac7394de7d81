"""Quantized transformers, wherever their codes come from, are read by the same words."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.errors import VqError
from vq_export.model.quantized_model import QuantizedTransformer

QUANTIZED = ("rounded weights", "rounded source", "codes of LLMC")


@pytest.fixture
def quantized(
    models: dict[str, Path], smoothed_i2v: dict[str, Any], by_llmc: Callable[..., Path], convert: Callable[..., Any]
) -> Callable[[str], QuantizedTransformer]:
    """`quantized(form)`: one of `QUANTIZED`."""

    def open_form(form: str) -> QuantizedTransformer:
        model = {
            "rounded weights": smoothed_i2v["int8"].opened,
            "rounded source": partial(convert, models["i2v"]),
            "codes of LLMC": lambda: convert(by_llmc("i2v", "int8")),
        }[form]()
        component: QuantizedTransformer = model.components["transformer"]
        return component

    return open_form


@pytest.mark.parametrize("form", QUANTIZED)
def test_every_form_is_read_by_the_same_words(form: str, quantized: Callable[[str], QuantizedTransformer]) -> None:
    reader = quantized(form)
    for shard, names in reader.topology.plain_shards().items():
        reader.verify(shard)
        assert list(reader.plain(iter(names[::-1]))) == list(names[::-1])
    for linear in reader.topology.linears:
        codes, scale, *_ = reader.linear(linear.name)
        assert tuple(codes.shape) == (linear.out_features, linear.in_features)
        assert tuple(scale.shape) == (linear.out_features, 1)
    gains = {name: reader.gain(name) for name in reader.topology.gains}
    assert {gain is None for gain in gains.values()} == {form == "rounded source"}
    for name, gain in gains.items():
        assert gain is None or (gain.dtype, len(gain)) == (torch.float32, reader.topology.gains[name])


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
    codes, scale, *_ = rounded.linear(linear)
    assert bool(((codes.float() * scale - weight.float()).abs() <= scale * 0.51).all())
    same = rounded.plain([names[0], names[2]])
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in same.items())
    gain, ours = (it.gain("blocks.0.norm1.gain") for it in (rounded, rounded.unrounded))
    assert (gain is None and ours is None) or (gain is not None and ours is not None and torch.equal(gain, ours))


@pytest.mark.parametrize("damaged", ["weights", "qparams"])
def test_both_artifacts_are_verified(damaged: str, models: dict[str, Path], make_artifacts: Callable[..., Any]) -> None:
    made = make_artifacts(models["t2v"])
    model = made.opened()
    (path, *_) = sorted((getattr(made, damaged) / "transformer").glob("block*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(VqError, match=r"block.*\.safetensors is not the file that was written"):
        model.components["transformer"].verify("block_0")
