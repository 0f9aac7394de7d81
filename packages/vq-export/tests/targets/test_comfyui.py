"""The file that ComfyUI loads: names, dtypes, shapes and values, held against its own Wan model, not against ours.

That it computes the right thing is tested with the whole road, against diffusers' transformer.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vq_core.artifacts.comfyui_checkpoint import FORMATS, KIND
from vq_core.errors import VqError
from vq_core.files.tensor_file import read_metadata
from vq_core.store.reader import open_artifact
from vq_export.targets.comfyui import export, next_steps

Paths = dict[str, Path]

DIM = 64
CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
LAYER = {
    "int8": {"format": "int8_tensorwise"},
    "fp8": {"format": "float8_e4m3fn", "full_precision_matrix_mult": True},
}

Spec = tuple[torch.dtype, tuple[int, ...]]


def expected(names: Any, scheme: str) -> dict[str, Spec]:
    """Every tensor of ComfyUI's WanModel, and what its quantized linears read besides."""
    specs: dict[str, Spec] = {name: (torch.bfloat16, shape) for name, shape in names.plain.values()}
    for stem, shape in names.quantized.values():
        specs[f"{stem}.weight"] = (CODES[scheme], shape)
        specs[f"{stem}.weight_scale"] = (torch.float32, (shape[0], 1) if scheme == "int8" else ())
        specs[f"{stem}.comfy_quant"] = (torch.uint8, (len(json.dumps(LAYER[scheme])),))
    return specs


@pytest.fixture(scope="module")
def written(models: Paths, tmp_path_factory: pytest.TempPathFactory, convert: Any) -> Callable[[str, str], Path]:
    """`written(kind, scheme)`: a converted model, not to be changed."""
    root = tmp_path_factory.mktemp("comfyui")

    def write(kind: str, scheme: str) -> Path:
        output = root / f"{kind}-{scheme}"
        if not output.exists():
            export(convert(models[kind], scheme), output)
        return output

    return write


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("t2v", ["wan_t2v_{}.safetensors"]),
        ("i2v", ["wan_i2v_{}.safetensors"]),
        ("ti2v-5b", ["wan_ti2v_{}.safetensors"]),
        ("i2v-2.2", [f"{it}_noise_model/wan_i2v_{it}_noise_{{}}.safetensors" for it in ("high", "low")]),
    ],
)
def test_one_file_per_transformer_with_every_tensor_of_comfyuis_model(
    written: Callable[[str, str], Path], native_names: Any, kind: str, files: list[str], scheme: str
) -> None:
    folder = written(kind, scheme)
    paths = [folder / file.format(scheme) for file in files]
    assert {path for path in folder.rglob("*") if path.is_file()} == {*paths, folder / "manifest.json"}
    for path in paths:
        specs = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in load_file(path).items()}
        assert specs == expected(native_names(kind), scheme)
    open_artifact(folder, KIND, FORMATS[KIND])


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_header_and_markers_name_the_format_of_every_quantized_linear(
    written: Callable[[str, str], Path], models: Paths, native_names: Any, scheme: str
) -> None:
    path = written("i2v", scheme) / f"wan_i2v_{scheme}.safetensors"
    stems = {stem for stem, _ in native_names("i2v").quantized.values()}
    metadata = read_metadata(path)
    assert json.loads(metadata["_quantization_metadata"]) == {
        "format_version": "1.0",
        "layers": dict.fromkeys(stems, LAYER[scheme]),
    }
    tensors = load_file(path)
    for stem in stems:
        assert json.loads(tensors[f"{stem}.comfy_quant"].numpy().tobytes()) == LAYER[scheme]
    said = json.loads(metadata["vq"])
    assert (said["model"], said["component"]) == (str(models["i2v"]), "transformer")
    settings = {"scheme": scheme, "method": "rtn", "rounding": "nearest-even"}
    assert said["settings"]["quantize"] == settings


def test_int8_is_what_the_quant_params_hold(models: Paths, make_artifacts: Callable[..., Any], tmp_path: Path) -> None:
    made = make_artifacts(models["i2v"], "int8", octaves=0, corrected="blocks.1.ffn.net.2")
    export(made.opened(), tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "wan_i2v_int8.safetensors")
    blocks = (made.qparams / "transformer" / f"block_{number}.safetensors" for number in (0, 1))
    qparams = {name: tensor for block in blocks for name, tensor in load_file(block).items()}
    for ours, theirs in (
        ("blocks.0.attn1.to_k", "blocks.0.self_attn.k"),
        ("blocks.1.attn2.add_v_proj", "blocks.1.cross_attn.v_img"),
        ("blocks.1.ffn.net.0.proj", "blocks.1.ffn.0"),
    ):
        assert torch.equal(tensors[f"{theirs}.weight"], qparams[f"{ours}.codes"])
        assert torch.equal(tensors[f"{theirs}.weight_scale"], qparams[f"{ours}.scale"])
    assert torch.equal(tensors["blocks.1.ffn.2.bias"], qparams["blocks.1.ffn.net.2.bias"].bfloat16())


def test_rotated_codes_are_marked_with_their_group(
    models: Paths, native_names: Any, make_artifacts: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_artifacts(models["i2v"], "int8", octaves=0, rotation=16)
    export(made.opened(), tmp_path / "out")
    path = tmp_path / "out" / "wan_i2v_int8.safetensors"
    layer = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}
    tensors, stems = load_file(path), [stem for stem, _ in native_names("i2v").quantized.values()]
    assert json.loads(read_metadata(path)["_quantization_metadata"])["layers"] == dict.fromkeys(stems, layer)
    for stem in stems:
        assert json.loads(tensors[f"{stem}.comfy_quant"].numpy().tobytes()) == layer
    qparams = load_file(made.qparams / "transformer" / "block_0.safetensors")
    assert torch.equal(tensors["blocks.0.ffn.2.weight"], qparams["blocks.0.ffn.net.2.codes"])


@pytest.mark.parametrize("rounding", ["nearest-even", "qtorch"])
def test_fp8_has_one_scale_per_tensor_and_is_rounded_once(
    models: Paths, rounding: str, tmp_path: Path, convert: Any
) -> None:
    export(convert(models["t2v"], "fp8", rounding=rounding), tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "wan_t2v_fp8.safetensors")
    source = load_file(models["t2v"] / "transformer" / "diffusion_pytorch_model.safetensors")
    weight = source["blocks.1.attn2.to_out.0.weight"].double()
    codes, scale = tensors["blocks.1.cross_attn.o.weight"].double(), tensors["blocks.1.cross_attn.o.weight_scale"]
    assert scale == scale.bfloat16().float()  # ComfyUI casts it to the dtype of the activations
    assert 416 <= codes.abs().max() <= 448
    # Half of the 2⁻³ between two codes, and half of the smallest step 2⁻⁹: of the weight itself, not of its codes
    # per channel, whose own rounding would come on top.
    step = (weight.abs() / 16).maximum(scale.double() * 2.0**-10)
    assert ((codes * scale.double() - weight).abs() <= step * (1 + 1e-5)).all()


def test_a_midpoint_is_rounded_as_asked(make_model: Callable[..., Path], tmp_path: Path, convert: Any) -> None:
    weight = torch.zeros(DIM, DIM).bfloat16()
    weight[0, :2] = torch.tensor([448.0, 17.0])  # scale 1; 17 lies between the codes 16 and 18
    model = make_model("t2v", edit=lambda tensors: tensors.update({"blocks.0.attn1.to_q.weight": weight}))
    for rounding, code in (("nearest-even", 16), ("qtorch", 18)):
        export(convert(model, "fp8", rounding=rounding), tmp_path / rounding)
        tensors = load_file(tmp_path / rounding / "wan_t2v_fp8.safetensors")
        assert float(tensors["blocks.0.self_attn.q.weight"][0, 1]) == code


def test_experts_are_not_mixed_up(written: Callable[[str, str], Path], models: Paths) -> None:
    for component, expert in (("transformer", "high_noise"), ("transformer_2", "low_noise")):
        source = load_file(models["i2v-2.2"] / component / "diffusion_pytorch_model.safetensors")
        path = written("i2v-2.2", "int8") / f"{expert}_model" / f"wan_i2v_{expert}_int8.safetensors"
        assert torch.equal(load_file(path)["patch_embedding.weight"], source["patch_embedding.weight"])


@pytest.mark.parametrize(
    ("scheme", "octaves", "sentence"),
    [
        ("int8", 2, "^ComfyUI has no gains of modulated norms.* `vq-algos smooth --target comfyui`"),
        ("fp8", 0, "^ComfyUI reads one FP8 scale per tensor.* convert the model itself with --model and --scheme fp8"),
    ],
)
def test_what_comfyui_cannot_read_is_refused(
    models: Paths, make_artifacts: Any, tmp_path: Path, scheme: str, octaves: float, sentence: str
) -> None:
    with pytest.raises(VqError, match=sentence):
        export(make_artifacts(models["t2v"], scheme, octaves=octaves).opened(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_next_step_names_the_files_and_comfyuis_folder(models: Paths, convert: Any) -> None:
    copy, here = next_steps(convert(models["i2v-2.2"]), Path("out")).splitlines()
    assert re.findall(r"[\w/.]+\.safetensors", copy) == [
        "out/high_noise_model/wan_i2v_high_noise_int8.safetensors",
        "out/low_noise_model/wan_i2v_low_noise_int8.safetensors",
    ]
    assert "ComfyUI/models/diffusion_models" in copy
    assert here.startswith("or here: vq-infer i2v ")
