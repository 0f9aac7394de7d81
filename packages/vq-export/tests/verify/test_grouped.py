"""Weights of 4 and 6 bits: written, read back, compared; broken in every way that has a sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vq_core.artifacts.comfyui_checkpoint import ComfyuiTransformer, marker_of
from vq_core.artifacts.converted import open_converted
from vq_core.model.source import open_source
from vq_core.numerics.grouped import CODEBOOK, pack
from vq_export.gate import export
from vq_export.verify.reference import model_reference, unrounded_reference
from vq_export.verify.verify import verify

Paths = dict[str, Path]
Made = tuple[Any, Path]

Q = "blocks.1.self_attn.q"
WIDTHS = {"w4a8": (32, 80), "w6a8": (48, 120)}
"""Bytes of a row of 64 and of 160 weights."""


@pytest.fixture(scope="module", params=["comfyui", "native"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=WIDTHS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(target: str, scheme: str, make_checkpoint: Callable[..., Made]) -> Made:
    """Artifacts and the checkpoint of them, with gains where the target has any."""
    return make_checkpoint(target, scheme, rotation=16)


def test_the_file_holds_packed_codes_and_says_so(made: Made, target: str, scheme: str) -> None:
    artifacts, path = made
    model = artifacts.opened()
    file = load_file(path / f"wan_i2v_{scheme}.safetensors")
    ours = model.components["transformer"]
    theirs = open_converted(path).components["transformer"]
    assert isinstance(theirs, ComfyuiTransformer)
    for linear in ours.topology.linears:
        stem = model.family.to_native(f"{linear.name}.weight").removesuffix(".weight")
        expected = ours.linear(linear.name)
        packed = pack(expected)
        rows, columns = linear.out_features, linear.in_features
        assert file[f"{stem}.weight"].shape == (rows, WIDTHS[scheme][columns > 64])
        assert torch.equal(file[f"{stem}.weight"], packed.codes)
        assert torch.equal(file[f"{stem}.weight_s_rel"].float(), packed.group_scale.float())
        assert torch.equal(file[f"{stem}.weight_s_channel"], packed.scale.flatten())
        assert ("weight_codebook" in {name.removeprefix(f"{stem}.") for name in file}) == (scheme == "w4a8")
        assert f"{stem}.weight_scale" not in file
        gain = f"{stem}.pre_quant_scale" in file
        assert json.loads(file[f"{stem}.comfy_quant"].numpy().tobytes()) == {
            "format": "vq_w4a8_gain" if gain else "asym_w4a8_int8",
            "group_size": 16,
            "convrot": True,
            "convrot_groupsize": expected.rotation,
        }
        again = theirs.linear(linear.name)
        assert torch.equal(again.codes, expected.codes)
        assert torch.equal(again.scale, expected.scale)
        assert again.rotation == expected.rotation > 1
    assert any(name.endswith("pre_quant_scale") for name in file) == (target == "native")


@pytest.mark.parametrize("of_model", [False, True])
def test_it_is_the_model(made: Made, models: Paths, of_model: bool) -> None:
    artifacts, path = made
    checkpoint = open_converted(path)
    reference = unrounded_reference(artifacts.opened())
    if of_model:
        reference = model_reference(open_source(str(models["i2v"])), checkpoint)
    found = verify(checkpoint, reference)
    assert found.problems == []
    assert [warning for warning in found.warnings if "heads of 16 channels" not in warning] == []
    least = 18 if checkpoint.schemes[0].bits == 4 else 29
    assert min(found.weight_snr_db["transformer"].values()) > least
    assert all(abs(error.excess_db) < 1.5 for error in found.blocks["transformer"].branches.values())


def test_centered_and_perhaps_rescaled_it_is_the_model(
    scheme: str, make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path
) -> None:
    """`auto` may have rescaled rows before GELU: few bits tell their factors roughly, and centered biases do not."""
    artifacts = make_artifacts(models["i2v"], scheme, rotation=16, center=True, method="auto")
    export("native", artifacts.opened(), tmp_path / "checkpoint")
    checkpoint = open_converted(tmp_path / "checkpoint")
    assert verify(checkpoint, model_reference(open_source(str(models["i2v"])), checkpoint)).problems == []


def _mark(key: str, value: object) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        name = f"{Q}.comfy_quant"
        tensors = content.find(name)
        layer = json.loads(tensors[name].numpy().tobytes()) | {key: value}
        tensors[name] = marker_of(layer)
        (metadata,) = content.metadata.values()
        said = json.loads(metadata["_quantization_metadata"])
        said["layers"][Q] = layer
        metadata["_quantization_metadata"] = json.dumps(said)

    return edit


def _change(part: str, edited: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], None]:
    return lambda content: content.change(f"{Q}.{part}", edited)


def _doubled_row(scale: torch.Tensor) -> torch.Tensor:
    raw = scale.float()
    raw[3] *= 2
    return raw.to(scale.dtype)


BREAKS: dict[str, tuple[Callable[[Any], None], str]] = {
    "no group scales": (lambda it: it.find(f"{Q}.weight_s_rel").pop(f"{Q}.weight_s_rel"), "`weight_s_rel` is missing"),
    "group scales in fp32": (_change("weight_s_rel", torch.Tensor.float), "is F32 and should be F8_E4M3."),
    "unpacked codes": (
        _change("weight", lambda it: it.repeat_interleave(2, dim=1)),
        "`blocks.1.self_attn.q.weight` is [64, 64] and should be [64, 32].",
    ),
    "another codebook": (
        _change("weight_codebook", lambda it: it * 1.01),
        "is another codebook than the one that the codes are for.",
    ),
    "other groups": (_mark("group_size", 32), "says groups of 32, and scales are of groups of 16."),
    "another format": (_mark("format", "int8_tensorwise"), "says 'int8_tensorwise' and the codes are w4a8."),
    "a row's scales doubled": (_change("weight_s_rel", _doubled_row), "and a row or column with"),
    "exchanged nibbles": (
        _change("weight", lambda it: ((it.view(torch.uint8) >> 4) | (it.view(torch.uint8) << 4)).view(torch.int8)),
        "is not the source's",
    ),
}


@pytest.fixture(scope="module")
def four_bits(models: Paths, make_artifacts: Callable[..., Any], tmp_path_factory: Any) -> Made:
    artifacts = make_artifacts(models["i2v"], "w4a8", rotation=16, octaves=0)
    path = tmp_path_factory.mktemp("four") / "checkpoint"
    export("comfyui", artifacts.opened(), path)
    return artifacts, path


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_named(four_bits: Made, rewrite: Callable[..., Path], what: str) -> None:
    artifacts, path = four_bits
    edit, sentence = BREAKS[what]
    found = verify(open_converted(rewrite(path, edit)), unrounded_reference(artifacts.opened()))
    assert any(sentence.replace("`weight_s_rel`", f"`{Q}.weight_s_rel`") in problem for problem in found.problems), (
        found.problems
    )


def test_the_codebook_is_the_published_one() -> None:
    assert len(CODEBOOK) == 16
    assert sorted(CODEBOOK) == list(CODEBOOK)
