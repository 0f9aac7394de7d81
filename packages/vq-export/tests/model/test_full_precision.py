"""Codes, scales and gains become weights by the literal formula, and everything else stays as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.families.wan import to_native
from vq_core.model.source import open_source
from vq_export.model.full_precision import FullPrecisionModel, full_precision, open_full_precision
from vq_export.options import DiffusersOptions

Paths = dict[str, Path]

AFFINE = {"attn1.to_q": "affine_norm1", "attn1.to_k": "affine_norm1", "attn1.to_v": "affine_norm1"}
AFFINE |= {"ffn.net.0.proj": "affine_norm3"}


def read(model: FullPrecisionModel, component: str = "transformer", dtype: torch.dtype = torch.float32) -> Any:
    part = model.components[component]
    return full_precision(part, tuple(part.topology.tensors), dtype)


def content(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def gain_of(weight: str, stored: dict[str, Tensor]) -> Tensor | float:
    """What multiplies the columns of the linear whose `weight` it is, in fp64."""
    block = ".".join(weight.split(".")[:2])
    norm = AFFINE.get(weight.removeprefix(f"{block}.").removesuffix(".weight"))
    name = f"{block}.{norm}.weight"
    return stored[name].double() if norm and name in stored else 1.0


def expected_weight(weight: str, native: str, stored: dict[str, Tensor]) -> Tensor:
    return stored[native].double() * stored[f"{native}_scale"].double() * gain_of(weight, stored)


@pytest.mark.parametrize("name", ["int8-smoothed", "fp8-smoothed", "int8-t2v", "fp8-ti2v-5b"])
def test_a_checkpoint_is_dequantized_exactly(checkpoints: Paths, name: str) -> None:
    stored, opened = content(checkpoints[name]), open_full_precision(DiffusersOptions(checkpoint=checkpoints[name]))
    assert opened.form == "dequantized"
    assert any("affine_norm" in tensor for tensor in stored) is name.endswith("smoothed")
    component = opened.components["transformer"]
    linears = {f"{linear.name}.weight" for linear in component.topology.linears}
    for tensor, value in read(opened).items():
        if tensor in linears:
            assert value.dtype == torch.float32
            assert torch.equal(value.double(), expected_weight(tensor, to_native(tensor), stored))
        else:
            assert value.dtype == stored[to_native(tensor)].dtype
            assert torch.equal(value, stored[to_native(tensor)])


def test_each_expert_is_its_own(checkpoints: Paths) -> None:
    folder = checkpoints["int8-i2v-2.2"]
    opened = open_full_precision(DiffusersOptions(checkpoint=folder))
    for component, expert in (("transformer", "high_noise_model"), ("transformer_2", "low_noise_model")):
        stored, name = content(folder / expert), "blocks.1.ffn.net.2.weight"
        assert torch.equal(read(opened, component)[name].double(), expected_weight(name, to_native(name), stored))


def test_artifacts_give_what_their_checkpoint_gives(checkpoints: Paths, smoothed_i2v: Any) -> None:
    made = smoothed_i2v["fp8"]
    one = read(open_full_precision(DiffusersOptions(weights=made.weights, qparams=made.qparams)))
    other = read(open_full_precision(DiffusersOptions(checkpoint=checkpoints["fp8-smoothed"])))
    assert one.keys() == other.keys()
    stored = open_weights(made.weights).components["transformer"].topology.biases  # in bfloat16, in a checkpoint
    assert all(torch.equal(one[name].bfloat16() if name in stored else one[name], other[name]) for name in one)


def test_smoothed_weights_stay_folded_but_for_modulated_norms(smoothed_i2v: Any) -> None:
    made = smoothed_i2v["int8"]
    opened = open_full_precision(DiffusersOptions(weights=made.weights))
    assert opened.form == "folded"
    stored = content(made.weights / "transformer")
    for name, value in read(opened).items():
        block = ".".join(name.split(".")[:2])
        norm = AFFINE.get(name.removeprefix(f"{block}.").removesuffix(".weight"))
        if norm:
            exact = stored[name].double() * stored[f"{block}.{norm.removeprefix('affine_')}.gain"].double()
            assert torch.allclose(value.double(), exact, rtol=2**-23, atol=0)
        else:
            assert torch.equal(value, stored[name])


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_what_llmc_has_quantized(by_llmc: Callable[..., Path], scheme: str) -> None:
    folder = by_llmc("i2v", scheme)
    stored = content(folder)
    stored |= {name: tensor.bfloat16() for name, tensor in stored.items() if "affine_norm" in name}
    found = read(open_full_precision(DiffusersOptions(model=str(folder))))
    for name in ("blocks.0.attn1.to_v.weight", "blocks.1.ffn.net.0.proj.weight", "blocks.1.attn2.to_q.weight"):
        assert torch.equal(found[name].double(), expected_weight(name, name, stored))
    assert torch.equal(found["blocks.0.norm2.bias"], stored["blocks.0.norm2.bias"])


def test_what_llmc_has_smoothed(by_llmc: Callable[..., Path]) -> None:
    folder = by_llmc("i2v", None)
    stored, found = content(folder), read(open_full_precision(DiffusersOptions(model=str(folder))))
    for name in ("blocks.0.attn1.to_v.weight", "blocks.1.ffn.net.0.proj.weight"):
        exact = stored[name].double() * gain_of(name, stored)
        assert torch.allclose(found[name].double(), exact, rtol=2**-22, atol=0)  # quotient, product, product in fp32
        assert not torch.equal(found[name], stored[name].float())
    assert torch.equal(found["blocks.1.attn2.to_q.weight"], stored["blocks.1.attn2.to_q.weight"])


def test_a_plain_model_is_as_it_was(models: Paths) -> None:
    opened = open_full_precision(DiffusersOptions(model=str(models["i2v"])))
    assert opened.form == "plain"
    original = open_source(str(models["i2v"])).components["transformer"]
    for name, value in read(opened, dtype=torch.float32).items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, original.plain([name])[name])


def test_only_what_is_computed_takes_the_dtype(checkpoints: Paths) -> None:
    opened = open_full_precision(DiffusersOptions(checkpoint=checkpoints["int8-smoothed"]))
    exact, rounded = read(opened), read(opened, dtype=torch.bfloat16)
    linears = {f"{linear.name}.weight" for linear in opened.components["transformer"].topology.linears}
    for name, value in rounded.items():
        assert torch.equal(value, exact[name].bfloat16() if name in linears else exact[name])


@pytest.mark.parametrize("said", [{}, {"model": "a", "checkpoint": Path("b")}, {"qparams": Path("q"), "model": "a"}])
def test_refuses_none_and_several(said: dict[str, Any]) -> None:
    with pytest.raises(VqError, match="Give one of --model, --checkpoint and --weights; --qparams goes with --weights"):
        open_full_precision(DiffusersOptions(**said))


def test_refuses_a_lora_for_what_is_quantized(checkpoints: Paths, by_llmc: Callable[..., Path]) -> None:
    with pytest.raises(VqError, match="`--lora` goes with --model"):
        open_full_precision(DiffusersOptions(checkpoint=checkpoints["int8-t2v"], lora=["x.safetensors"]))
    with pytest.raises(VqError, match="is quantized already, and LoRAs are merged before quantization"):
        open_full_precision(DiffusersOptions(model=str(by_llmc("t2v", "int8")), lora=["x.safetensors"]))


def test_refuses_values_that_are_none(make_model: Callable[..., Path]) -> None:
    damaged = make_model("t2v", edit=lambda tensors: tensors["proj_out.bias"][1].fill_(float("nan")))
    opened = open_full_precision(DiffusersOptions(model=str(damaged)))
    with pytest.raises(VqError, match=r"`proj_out.bias` in .* has 1 values of \d+ that are NaN or infinite"):
        read(opened)
