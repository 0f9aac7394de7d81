"""Linears that subtract the mean of what GELU gives: written, read back, compared; broken, and named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vq_core.artifacts.converted import open_converted
from vq_core.errors import VqError
from vq_export.gate import export
from vq_export.verify.verification import Verification

Paths = dict[str, Path]
Made = tuple[Any, Path]

DOWN, NATIVE = "blocks.1.ffn.net.2", "blocks.1.ffn.2"
FORMATS = {"int8": "vq_int8_mean", "fp8": "vq_fp8_channel", "w4a8": "vq_w4a8_mean"}


@pytest.fixture(scope="module", params=FORMATS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(scheme: str, make_checkpoint: Callable[..., Made]) -> Made:
    return make_checkpoint("native", scheme, rotation=1 if scheme == "fp8" else 16, center=True, subtract=True)


def test_the_file_holds_it_and_says_so(made: Made, scheme: str) -> None:
    artifacts, path = made
    (file,) = path.glob("*.safetensors")
    tensors = load_file(file)
    expected = artifacts.opened().components["transformer"].input_mean(DOWN)
    assert torch.count_nonzero(expected)
    assert torch.equal(tensors[f"{NATIVE}.pre_quant_mean"], expected)
    assert json.loads(tensors[f"{NATIVE}.comfy_quant"].numpy().tobytes())["format"] == FORMATS[scheme]
    assert {name for name in tensors if name.endswith("pre_quant_mean")} == {
        f"blocks.{block}.ffn.2.pre_quant_mean" for block in range(2)
    }
    component = open_converted(path).components["transformer"]
    found = component.input_mean(DOWN)
    assert found is not None
    assert torch.equal(found, expected)
    assert component.input_mean("blocks.1.attn1.to_q") is None


@pytest.mark.parametrize("of_model", [False, True])
def test_it_is_that_of_the_smoothed_weights_and_of_the_model(
    made: Made, verified: Callable[..., Verification], of_model: bool
) -> None:
    artifacts, path = made
    found = verified(path, None if of_model else artifacts)
    assert found.problems == []
    assert all(abs(error.excess_db) < 1.5 for error in found.blocks["transformer"].branches.values())


BREAKS: dict[str, tuple[Callable[[Any], None], str]] = {
    "none": (
        lambda it: it.find(f"{NATIVE}.pre_quant_mean").pop(f"{NATIVE}.pre_quant_mean"),
        f"`{NATIVE}.pre_quant_mean` is missing.",
    ),
    "another": (
        lambda it: it.change(f"{NATIVE}.pre_quant_mean", lambda mean: 2 * mean),
        f"`{DOWN}.bias` of transformer",
    ),
    "in bfloat16": (
        lambda it: it.change(f"{NATIVE}.pre_quant_mean", torch.Tensor.bfloat16),
        f"`{NATIVE}.pre_quant_mean` is BF16 and should be F32.",
    ),
    "a bias without it": (
        lambda it: it.change(f"{NATIVE}.bias", lambda bias: bias + 1),
        f"`{DOWN}.bias` of transformer",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_named(
    made: Made, verified: Callable[..., Verification], rewrite: Callable[..., Path], what: str
) -> None:
    edit, sentence = BREAKS[what]
    problems = verified(rewrite(made[1], edit)).problems
    assert any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize(("target", "title"), [("lightx2v", "LightX2V"), ("comfyui", "ComfyUI")])
def test_a_target_that_cannot_subtract_it_refuses(
    make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path, target: str, title: str
) -> None:
    model = make_artifacts(models["i2v"], center=True, subtract=True, octaves=0.0).opened()
    with pytest.raises(VqError, match=f"^{title} does not subtract a mean behind GELU, .* `vq-algos smooth --target"):
        export(target, model, tmp_path / "out")
