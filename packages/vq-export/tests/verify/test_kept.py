"""Linears in full precision between quantized ones: written, read back, compared, and shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vq_core.artifacts.converted import open_converted
from vq_core.errors import VqError
from vq_export.gate import export
from vq_export.show import provenance_of, provenance_rows
from vq_export.targets import target_named
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify

Paths = dict[str, Path]
Made = tuple[Any, Path]

KEPT = (
    "blocks.1.attn1.to_q",
    "blocks.1.attn1.to_k",
    "blocks.1.attn1.to_v",
    "blocks.1.attn2.to_k",
    "blocks.1.attn2.to_v",
    "blocks.1.ffn.net.0.proj",
    "blocks.0.ffn.net.2",
    "blocks.0.attn1.to_out.0",
)
"""Of the block that is computed, and of another; some produce what others read."""
NATIVE = "blocks.1.self_attn.q"
FILE = "wan_i2v_int8.safetensors"


@pytest.fixture(scope="module", params=["native", "native fp8", "comfyui"])
def made(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Made]) -> Made:
    """Artifacts and the checkpoint of them: smoothed, centered, with corrected biases."""
    target, _, scheme = request.param.partition(" ")
    return make_checkpoint(target, scheme or "int8", rotation=1 if scheme else 16, center=True, kept=KEPT)


def test_it_is_that_of_the_model_and_of_the_smoothed_weights(made: Made, verified: Callable[..., Verification]) -> None:
    artifacts, path = made
    found = verified(path)
    assert found.problems == []
    assert len(found.weight_snr_db["transformer"]) == 24 - len(KEPT)
    assert verified(path, artifacts).problems == []


def test_the_file_holds_them_as_plain_tensors(made: Made) -> None:
    artifacts, path = made
    (file,) = path.glob("*.safetensors")
    tensors, component = load_file(file), artifacts.opened().components["transformer"]
    for linear, native in ((KEPT[0], NATIVE), (KEPT[-2], "blocks.0.ffn.2")):
        of_linear = {name.removeprefix(f"{native}.") for name in tensors if name.startswith(f"{native}.")}
        assert of_linear == {"weight", "bias"}
        plain = component.plain([f"{linear}.weight", f"{linear}.bias"])
        assert torch.equal(tensors[f"{native}.weight"], plain[f"{linear}.weight"].bfloat16())
        assert torch.equal(tensors[f"{native}.bias"], plain[f"{linear}.bias"].bfloat16())
    rows = provenance_rows(provenance_of(path))
    assert set(rows["transformer in full precision"].split(", ")) == set(KEPT)
    notes = target_named("native").notes(artifacts.opened())
    assert notes["full precision"] == f"{len(KEPT)} of 24 linears"


def _first_row(tensor: Tensor) -> Tensor:
    changed = tensor.clone()
    changed[0] *= -1
    return changed


@pytest.mark.parametrize("tensor", [f"{NATIVE}.weight", f"{NATIVE}.bias", "blocks.0.ffn.2.weight"])
def test_a_wrong_one_is_named(
    made: Made, verified: Callable[..., Verification], rewrite: Callable[..., Path], tensor: str
) -> None:
    path = rewrite(made[1], lambda content: content.change(tensor, _first_row))
    (problem, *_) = verified(path).problems
    diffusers = {"blocks.0.ffn.2.weight": "blocks.0.ffn.net.2.weight"}.get(
        tensor, tensor.replace("self_attn.q", "attn1.to_q")
    )
    assert f"`{diffusers}` of transformer is not the source's." in problem


def test_what_reads_the_centered_text_is_compared_closely(
    made: Made, verified: Callable[..., Verification], rewrite: Callable[..., Path]
) -> None:
    """The embedder's weights tell the gain of its rows, whose bias has lost a mean: none of them was quantized."""
    path = rewrite(made[1], lambda content: content.change("blocks.1.cross_attn.k.weight", lambda it: it * 1.012))
    found = verified(path).problems
    assert any("`blocks.1.attn2.to_k.weight` of transformer is not the source's." in problem for problem in found)


def test_a_marker_of_one_is_refused(made: Made, rewrite: Callable[..., Path]) -> None:
    def mark(content: Any) -> None:
        marked = "blocks.0.self_attn.q.comfy_quant"
        tensors = content.find(marked)
        tensors[f"{NATIVE}.comfy_quant"] = tensors[marked].clone()

    problems = verify(open_converted(rewrite(made[1], mark))).problems
    assert f"`{NATIVE}.comfy_quant` is nothing that the runtime reads." in problems


@pytest.mark.parametrize("said", [["blocks.7.attn1.to_q"], "all", {"a": 1}])
def test_a_manifest_that_keeps_something_else_is_refused(made: Made, said: Any) -> None:
    checkpoint = open_converted(made[1])
    checkpoint.artifact.manifest.settings["kept"] = {"transformer": said}
    with pytest.raises(VqError, match="in full precision, which is none of its linears: make it again"):
        _ = checkpoint.components


def test_lightx2v_refuses_them(make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path) -> None:
    model = make_artifacts(models["i2v"], kept=KEPT).opened()
    with pytest.raises(
        VqError, match=r"^LightX2V reads every linear of a block in 8 bits, .* without --keep, --keep-size"
    ):
        export("lightx2v", model, tmp_path / "out")
