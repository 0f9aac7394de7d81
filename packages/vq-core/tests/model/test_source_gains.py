"""Gains that LLMC leaves beside the weights are read as runtimes multiply by them, and the function stays the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families.wan import topology
from vq_core.model.source import open_source

SINGLE = "diffusion_pytorch_model.safetensors"
QKV = ("attn1.to_q", "attn1.to_k", "attn1.to_v")


@pytest.fixture
def saved(tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Callable[..., Path]) -> Path:
    """What LLMC's `save_trans` writes: weights times s, and affine norms of 1/s in fp32."""
    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = random_tensors(t2v_config)
    for block in range(2):
        for norm, linears in (("affine_norm1", QKV), ("affine_norm3", ("ffn.net.0.proj",))):
            s = 0.5 + torch.rand(64, generator=generator)
            for part in ("weight", "bias"):
                tensors[f"blocks.{block}.{norm}.{part}"] = torch.ones(64) / s
            for linear in linears:
                name = f"blocks.{block}.{linear}.weight"
                tensors[name] = (tensors[name].float() * s).bfloat16()
    return write_transformer(tmp_path / "transformed_model", t2v_config, tensors)


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE)
    return folder


def test_gain_times_weight_is_what_llmc_stored(saved: Path) -> None:
    stored, checkpoint = load_file(saved / SINGLE), open_source(str(saved)).components["transformer"]
    assert checkpoint.has_gains
    for block in range(2):
        for gain, norm, linear in (
            ("norm1", "affine_norm1", "attn1.to_k"),
            ("norm3", "affine_norm3", "ffn.net.0.proj"),
        ):
            name, weight = f"blocks.{block}.{gain}.gain", f"blocks.{block}.{linear}.weight"
            multiplied, applied = checkpoint.linear(f"blocks.{block}.{linear}"), checkpoint.gain(name)
            assert applied is not None
            assert torch.equal(applied, applied.bfloat16().float())
            exact = stored[f"blocks.{block}.{norm}.weight"].double()
            assert torch.allclose(applied.double(), exact, rtol=2**-8, atol=0)
            # Two roundings to fp32: of the quotient and of the product.
            expected = stored[weight].double() * exact
            assert torch.allclose(multiplied.double() * applied.double(), expected, rtol=2**-22, atol=0)
    untouched = "blocks.0.attn2.to_q.weight"
    assert torch.equal(checkpoint.plain([untouched])[untouched], stored[untouched])


def test_gains_of_one_change_nothing(saved: Path) -> None:
    def forget(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if "affine_norm" in name:
                tensors[name] = torch.ones(64)

    stored = load_file(edit(saved, forget) / SINGLE)
    checkpoint = open_source(str(saved)).components["transformer"]
    for name, tensor in checkpoint.plain(checkpoint.topology.tensors).items():
        assert torch.equal(tensor, stored[name])
        assert tensor.dtype == stored[name].dtype


def test_gains_are_part_of_the_identity(saved: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for part in ("weight", "bias"):
            tensors[f"blocks.1.affine_norm3.{part}"] *= 2

    before = open_source(str(saved)).fingerprints
    assert open_source(str(edit(saved, change))).fingerprints != before


def test_a_plain_model_has_none(tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Any) -> None:
    source = open_source(str(write_transformer(tmp_path / "t", t2v_config, random_tensors(t2v_config))))
    assert not source.has_gains
    assert source.components["transformer"].gain("blocks.0.norm1.gain") is None


# --- Refusals ------------------------------------------------------------------------------------


def test_refuses_gains_that_are_missing_or_misshapen(saved: Path) -> None:
    edit(saved, lambda tensors: tensors.update({"blocks.0.affine_norm3.bias": torch.ones(3)}))
    with pytest.raises(VqError, match=r"`blocks.0.affine_norm3.bias` in .* is \[3\] and should be \[64\]"):
        open_source(str(saved))
    edit(saved, lambda tensors: tensors.pop("blocks.0.affine_norm3.bias"))
    with pytest.raises(VqError, match=r"has gains and lacks `blocks.0.affine_norm3.bias`"):
        open_source(str(saved))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        (("bias",), 2.0, "differ, so scale and shift of that norm were smoothed differently"),
        (("weight", "bias"), 0.0, "has values that are no positive numbers"),
        (("weight", "bias"), float("inf"), "has values that are no positive numbers"),
    ],
)
def test_refuses_gains_that_cannot_be_applied(saved: Path, part: tuple[str, ...], value: float, said: str) -> None:
    edit(saved, lambda tensors: [tensors[f"blocks.0.affine_norm1.{it}"].__setitem__(5, value) for it in part])
    checkpoint = open_source(str(saved)).components["transformer"]
    with pytest.raises(VqError, match=said):
        checkpoint.gain("blocks.0.norm1.gain")
    with pytest.raises(VqError, match=said):
        checkpoint.linear("blocks.0.attn1.to_q")


def test_refuses_a_lora(saved: Path, tmp_path: Path) -> None:
    from vq_core.model.lora_request import LoraRequest

    save_file({"blocks.0.ffn.net.2.diff": torch.ones(64, 160)}, tmp_path / "lora.safetensors")
    with pytest.raises(VqError, match="is smoothed already, and what a LoRA adds is not"):
        open_source(str(saved), [LoraRequest(tmp_path / "lora.safetensors")])


def test_the_configuration_does_not_tell_of_llmc(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"quant_method": "advanced_ptq"}))
    assert open_source(str(saved)).components["transformer"].config == config
    assert topology(config).gains.keys() == {
        f"blocks.{block}.{norm}.gain" for block in (0, 1) for norm in ("norm1", "norm3")
    }
