"""What `verify` says of files for ComfyUI, sound and broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vq_core.artifacts.comfyui_checkpoint import marker_of
from vq_core.artifacts.converted import open_converted
from vq_core.artifacts.weights import open_weights
from vq_core.errors import GateFailed
from vq_export.gate import export
from vq_export.show import provenance_of, provenance_rows
from vq_export.verify.reference import Reference, unrounded_reference
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify

Paths = dict[str, Path]
Edit = Callable[[Any], None]

FILE = "wan_i2v_int8.safetensors"
Q, DOWN = "blocks.1.self_attn.q", "blocks.1.ffn.2"
GAIN = f"{Q}.pre_quant_scale"
INT8, ROTATED = {"format": "int8_tensorwise"}, {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}


@pytest.fixture(scope="module")
def made(models: Paths, make_artifacts: Any) -> Any:
    """Artifacts whose codes are of rotated weights."""
    return make_artifacts(models["i2v"], "int8", octaves=0, rotation=64)


@pytest.fixture(scope="module")
def written(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the rotated codes, not to be changed."""
    output = tmp_path_factory.mktemp("comfyui") / "out"
    export("comfyui", made.opened(), output)
    return output


def verified(folder: Path, made: Any) -> Verification:
    return verify(open_converted(folder), unrounded_reference(made.opened()))


def test_a_sound_file_passes_and_every_linear_is_compared(written: Path, made: Any) -> None:
    found = verified(written, made)
    assert found.problems == []
    assert [warning for warning in found.warnings if "heads of 16 channels" not in warning] == []
    assert min(found.weight_snr_db["transformer"].values()) > 38
    assert all(abs(error.excess_db) < 0.1 for error in found.blocks["transformer"].branches.values())


@pytest.mark.parametrize("kind", ["t2v", "i2v-2.2", "ti2v-5b"])
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_what_is_converted_is_verified_before_it_gets_its_name(
    kind: str, scheme: str, models: Paths, convert: Any, tmp_path: Path
) -> None:
    found = export("comfyui", convert(models[kind], scheme), tmp_path / "out")
    assert found is not None
    assert found.problems == []
    assert {name: len(linears) for name, linears in found.weight_snr_db.items()} == dict.fromkeys(found.blocks, 20)


def test_exchanged_weights_do_not_get_the_name(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made.opened()
    exchanged = _exchanged(unrounded_reference(model))
    monkeypatch.setattr("vq_export.gate.unrounded_reference", lambda _: exchanged)
    with pytest.raises(GateFailed, match="is not the source's"):
        export("comfyui", model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out.unverified"]


def _exchanged(reference: Reference) -> Reference:
    """The reference with queries and keys exchanged."""
    component = reference.components["transformer"]

    class Exchanged:
        def __getattr__(self, name: str) -> Any:
            return getattr(component, name)

        def plain(self, names: Any, device: str = "cpu") -> Any:
            names = list(names)
            other = {name: name.replace("to_q", "*").replace("to_k", "to_q").replace("*", "to_k") for name in names}
            loaded = component.plain(other.values(), device)
            return {name: loaded[other[name]] for name in names}

    return Reference(reference.name, {"transformer": Exchanged()}, smoothed=True)


def say(stem: str, layer: object, *, header: bool = True) -> Edit:
    """Say something else of `stem`, in the marker and with `header` there, too."""

    def edit(content: Any) -> None:
        content.find(f"{stem}.comfy_quant")[f"{stem}.comfy_quant"] = marker_of(layer)  # type: ignore[arg-type]
        if header:
            (metadata,) = content.metadata.values()
            said = json.loads(metadata["_quantization_metadata"])
            said["layers"][stem] = layer
            metadata["_quantization_metadata"] = json.dumps(said)

    return edit


def add_to_header(content: Any) -> None:
    said = json.loads(content.metadata[FILE]["_quantization_metadata"])
    said["layers"]["head.head"] = INT8
    content.metadata[FILE]["_quantization_metadata"] = json.dumps(said)


def change(name: str, edited: Any) -> Edit:
    return lambda content: content.change(name, edited)


BREAKS: dict[str, tuple[Edit, str]] = {
    "no tensor": (lambda it: it.tensors[FILE].pop("head.head.bias"), "`head.head.bias` is missing."),
    "no marker": (lambda it: it.tensors[FILE].pop(f"{Q}.comfy_quant"), f"`{Q}.comfy_quant` is missing."),
    "a tensor more": (
        lambda it: it.tensors[FILE].update({f"{Q}.pre_quant_scale": torch.ones(64)}),
        f"`{Q}.pre_quant_scale` is nothing that the runtime reads.",
    ),
    "a file more": (lambda it: it.texts.update({"notes.json": "{}"}), "CKPT/notes.json is no part of a checkpoint."),
    "another dtype": (change(f"{Q}.weight", torch.Tensor.float), f"`{Q}.weight` is F32 and should be I8."),
    "scales in half": (change(f"{Q}.weight_scale", torch.Tensor.half), f"`{Q}.weight_scale` is F16 and should be F32."),
    "a flat scale": (
        change(f"{Q}.weight_scale", torch.Tensor.flatten),
        f"`{Q}.weight_scale` is [64] and should be [64, 1].",
    ),
    "−128": (
        change(f"{Q}.weight", lambda it: it.index_fill(0, torch.tensor([0]), -128)),
        f"`{Q}.weight` of transformer holds the code −128",
    ),
    "two words": (say(Q, INT8, header=False), f"The header says of `{Q}` {{"),
    "another format": (say(Q, {"format": "float8_e4m3fn"}), f"`{Q}.comfy_quant` says 'float8_e4m3fn' and the codes"),
    "a group that does not divide": (
        say(DOWN, ROTATED | {"convrot_groupsize": 64}),
        f"`{DOWN}.comfy_quant` rotates groups of 64, which do not divide its 160 inputs.",
    ),
    "a group that is a word": (
        say(Q, ROTATED | {"convrot_groupsize": "many"}),
        f"`{Q}.comfy_quant` rotates groups of 0",
    ),
    "a key more": (
        say(Q, ROTATED | {"gain": True}),
        f"`{Q}.comfy_quant` says `gain`, which the runtime does not know.",
    ),
    "a linear more": (add_to_header, "The header names `head.head`, which is not quantized."),
    "no header": (lambda it: it.metadata[FILE].pop("_quantization_metadata"), "The header says of `blocks.0.self_attn"),
    "a rotation forgotten": (say(Q, INT8), "`blocks.1.attn1.to_q` of transformer is not the source's weight"),
    "another rotation": (say(Q, ROTATED), "`blocks.1.attn1.to_q` of transformer is not the source's weight"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_said(written: Path, made: Any, rewrite: Callable[..., Path], name: str) -> None:
    edit, sentence = BREAKS[name]
    path = rewrite(written, edit)
    problems = [problem.replace(str(path), "CKPT") for problem in verified(path, made).problems]
    assert problems[0].startswith(sentence)


def test_a_block_computed_from_a_wrong_rotation_is_not_the_sources(
    written: Path, made: Any, rewrite: Callable[..., Path]
) -> None:
    path = rewrite(written, say(DOWN, INT8))
    problems = verified(path, made).problems
    assert any(problem.startswith("The feed forward of block 1 of transformer, computed as") for problem in problems)


# --- native checkpoints --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["int8", "fp8"])
def native(request: Any, models: Paths, make_artifacts: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Artifacts with gains and rotated codes, and the native checkpoint of them, not to be changed."""
    artifacts = make_artifacts(models["i2v"], request.param, rotation=64)
    output = tmp_path_factory.mktemp("native") / "out"
    export("native", artifacts.opened(), output)
    return artifacts, output


def test_a_native_file_holds_every_gain_and_names_what_comfyui_does_not_know(native: Any) -> None:
    artifacts, output = native
    found = verified(output, artifacts)
    assert found.problems == found.warnings == []
    assert all(abs(error.excess_db) < 0.1 for error in found.blocks["transformer"].branches.values())
    scheme = open_converted(output).scheme
    (path,) = output.glob("*.safetensors")
    tensors, gains = load_file(path), open_weights(artifacts.weights).components["transformer"]
    for stem, group in (("self_attn.q", "norm1"), ("self_attn.v", "norm1"), ("ffn.0", "norm3"), ("ffn.2", None)):
        layer = json.loads(tensors[f"blocks.0.{stem}.comfy_quant"].numpy().tobytes())
        formats = {"int8": "int8_tensorwise" if group is None else "vq_int8_gain", "fp8": "vq_fp8_channel"}
        assert layer == {
            "format": formats[scheme],
            "convrot": True,
            "convrot_groupsize": 16 if stem == "ffn.2" else 64,
        }
        assert tensors[f"blocks.0.{stem}.weight_scale"].ndim == 2
        assert (f"blocks.0.{stem}.pre_quant_scale" in tensors) is (group is not None)
        if group is not None:
            assert torch.equal(tensors[f"blocks.0.{stem}.pre_quant_scale"], gains.gain(f"blocks.0.{group}.gain"))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda it: it.find(GAIN).pop(GAIN), f"`{GAIN}` is missing."),
        (change(GAIN, lambda it: 2 * it), "differ, and smooth one input"),
        (change(GAIN, torch.Tensor.half), f"`{GAIN}` is F16 and should be F32."),
        (say(Q, INT8), f"`{Q}.comfy_quant` says 'int8_tensorwise' and the codes are"),
        (lambda it: [it.change(GAIN.replace(".q.", f".{part}."), lambda one: 2 * one) for part in "qkv"], "The self "),
    ],
)
def test_what_is_broken_in_a_native_file_is_said(
    native: Any, rewrite: Callable[..., Path], edit: Edit, sentence: str
) -> None:
    artifacts, output = native
    problems = verified(rewrite(output, edit), artifacts).problems
    assert sentence in problems[0]


def test_show_says_how_it_was_made(written: Path, models: Paths, tmp_path: Path) -> None:
    whole, part = provenance_of(written), provenance_of(written / FILE)
    for key in ("artifact", "tool", "model", "family", "components", "settings", "parents", "linears"):
        assert whole[key] == part[key]
    rows = provenance_rows(whole)
    assert rows["artifact"].startswith("comfyui-checkpoint, written by vq-export")
    assert rows["transformer weights attn1.to_q"].startswith("SNR ")
    (tmp_path / "renamed.safetensors").write_bytes((written / FILE).read_bytes())
    assert provenance_of(tmp_path / "renamed.safetensors")["model"] == str(models["i2v"])
