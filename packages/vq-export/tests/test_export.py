"""What a user names leads to one model or to a sentence, and a summary tells what was written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import open_source
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import NumberFormat
from vq_core.recipes.ignored import IgnoreRule
from vq_core.recipes.recipe import EvalSettings, LoraSettings, Recipe, read_recipe
from vq_export.export import open_model, verified_row
from vq_export.next_steps import verify_and_infer
from vq_export.options import ExportOptions
from vq_export.targets.lightx2v import export, notes
from vq_export.verify.reference import unrounded_reference
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify_lightx2v

Paths = dict[str, Path]


@pytest.fixture
def road(tmp_path: Path, smoothed_i2v: dict[str, Any], models: Paths) -> Recipe:
    """A recipe that names a model, and at whose output the artifacts of the stages before lie."""
    (tmp_path / "road").mkdir()
    (tmp_path / "road" / "smoothed-weights").symlink_to(smoothed_i2v["int8"].weights)
    (tmp_path / "road" / "quant-params").symlink_to(smoothed_i2v["int8"].qparams)
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {models['i2v']}\nscheme: int8\noutput: road\nquantize: {{rounding: qtorch}}\n")
    return read_recipe(path)


def refusal(inputs: ExportOptions, recipe: Recipe | None = None) -> str:
    with pytest.raises(VqError) as refused:
        open_model(inputs, recipe or Recipe())
    return str(refused.value)


def test_a_recipe_that_names_a_model_and_has_artifacts_gives_the_artifacts(road: Recipe) -> None:
    model = open_model(ExportOptions(), road)
    assert set(model.parents) == {"smoothed-weights", "quant-params"}
    assert model.has_gains


@pytest.mark.parametrize(
    ("said", "scheme", "rounding"),
    [({}, "int8", "qtorch"), ({"scheme": "fp8", "rounding": "nearest-even"}, "fp8", "nearest-even")],
)
def test_a_model_is_converted_as_the_options_say_else_the_recipe(
    road: Recipe, models: Paths, said: dict[str, Any], scheme: str, rounding: str
) -> None:
    model = open_model(ExportOptions(model=str(models["t2v"]), **said), road)
    assert model.parents == {}
    assert model.settings == {"quantize": {"scheme": scheme, "method": "rtn", "rounding": rounding}}


def test_sampling_is_as_the_recipe_says_else_as_the_model_does(road: Recipe, models: Paths, tmp_path: Path) -> None:
    model = shutil.copytree(models["t2v"], tmp_path / "distilled")
    (model / "sampling.json").write_text('{"steps": 4, "guidance_scale": 1.0}')
    inputs = ExportOptions(model=str(model), scheme="int8")
    assert open_model(inputs, Recipe()).settings["sampling"] == {"steps": 4, "guidance_scale": 1.0}
    said = Recipe(eval=EvalSettings(steps=8, height=720, prompts=tmp_path))
    expected = {"steps": 8, "guidance_scale": 1.0, "height": 720}
    assert open_model(inputs, said).settings["sampling"] == expected
    from_artifacts = open_model(ExportOptions(), road.model_copy(update={"eval": said.eval}))
    assert from_artifacts.settings["sampling"] == {"steps": 8, "height": 720}
    assert "sampling" not in open_model(ExportOptions(), road).settings


@pytest.mark.parametrize(
    ("files", "told", "shift"),
    [
        ({"flow_shift": 3.0}, {}, None),  # of the model that was distilled
        ({"flow_shift": 5.0}, {}, None),
        ({"flow_shift": 8.0}, {}, 8.0),  # nobody but its makers gives that
        ({"flow_shift": 3.0}, {"steps": 4, "guidance_scale": 1.0}, 3.0),  # of the distilled model itself
        ({"flow_shift": 3.0}, {"guidance_scale": 4.0}, None),
    ],
)
def test_without_guidance_the_shift_of_the_undistilled_model_does_not_hold(
    models: Paths, tmp_path: Path, files: dict[str, Any], told: dict[str, Any], shift: float | None
) -> None:
    model = shutil.copytree(models["t2v"], tmp_path / "model")
    (model / "scheduler").mkdir()
    (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(files))
    (model / "sampling.json").write_text(json.dumps(told))
    options = ExportOptions(model=str(model), scheme="int8")
    unguided = open_model(options, Recipe(eval=EvalSettings(steps=4, guidance_scale=1.0))).settings["sampling"]
    assert isinstance(unguided, dict)
    assert unguided.get("flow_shift") == shift
    guided = open_model(options, Recipe(eval=EvalSettings(guidance_scale=4.0))).settings["sampling"]
    assert isinstance(guided, dict)
    assert guided["flow_shift"] == files["flow_shift"]


def test_a_distilled_pair_is_exported_and_sound(models: Paths, tmp_path: Path) -> None:
    options = ExportOptions(model=str(models["i2v-2.2"]), scheme="int8")
    model = open_model(options, Recipe(eval=EvalSettings(steps=4, guidance_scale=1.0)))
    export(model, tmp_path / "ckpt")
    assert verify_lightx2v(tmp_path / "ckpt", unrounded_reference(model), "cpu").problems == []
    config = json.loads((tmp_path / "ckpt/run_configs/int8-vllm.json").read_text())
    assert (config["model_cls"], config["sample_shift"]) == ("wan2.2_moe_distill", 5.0)
    assert config["boundary_step_index"] == 2


@pytest.mark.parametrize(
    ("kind", "place", "name"),
    [
        ("i2v-2.2", "transformer", "Wan2.2 I2V A14B"),
        ("i2v-2.2", "transformer_2", "Wan2.2 I2V A14B"),
        ("t2v", "high_noise_model", "Wan2.2 T2V A14B"),
        ("t2v", "wan2.2_low_noise.safetensors", "Wan2.2 T2V A14B"),
    ],
)
def test_one_expert_alone_is_no_model(models: Paths, tmp_path: Path, kind: str, place: str, name: str) -> None:
    model = models[kind] / place
    if kind == "t2v":
        whole = shutil.copytree(models[kind] / "transformer", tmp_path / "high_noise_model")
        model = whole
        if place.endswith(".safetensors"):
            model = shutil.copy(whole / "diffusion_pytorch_model.safetensors", tmp_path / place)
            shutil.copy(whole / "config.json", tmp_path)
    quantized = open_model(ExportOptions(model=str(model), scheme="int8"), Recipe())
    with pytest.raises(VqError, match=f"{place} is one expert of {name} .*: give the folder that holds both"):
        export(quantized, tmp_path / "ckpt")
    assert not (tmp_path / "ckpt").exists()


@pytest.mark.parametrize(("tokens", "script"), [(257, True), (37, False)])
def test_a_model_with_another_image_encoder_gets_no_run_script(
    models: Paths, tmp_path: Path, tokens: int, script: bool
) -> None:
    model = shutil.copytree(models["i2v"], tmp_path / "model")
    (model / "image_encoder").mkdir()
    side = 14 * round((tokens - 1) ** 0.5)
    (model / "image_encoder" / "config.json").write_text(json.dumps({"image_size": side, "patch_size": 14}))
    quantized = open_model(ExportOptions(model=str(model), scheme="int8"), Recipe())
    export(quantized, tmp_path / "ckpt")
    assert (tmp_path / "ckpt" / "run_lightx2v.sh").exists() is script
    assert verify_lightx2v(tmp_path / "ckpt", None, "cpu").problems == []
    said = notes(quantized).get("run script", "")
    assert said == "" if script else said.startswith("none: the model's image encoder gives 37 tokens, and LightX2V")


def test_artifacts_named_apart_from_the_recipe(road: Recipe, make_artifacts: Any, models: Paths) -> None:
    made = make_artifacts(models["t2v"])
    model = open_model(ExportOptions(weights=made.weights, qparams=made.qparams), road)
    assert model.model == str(models["t2v"])


def test_a_recipe_whose_artifacts_are_missing_is_refused(tmp_path: Path, models: Paths) -> None:
    recipe = Recipe(model=str(models["t2v"]), scheme="int8", output=tmp_path)
    assert "smoothed-weights is not a smoothed-weights artifact" in refusal(ExportOptions(), recipe)


NOTHING = "Nothing to export: give --weights and --qparams, or --model and --scheme."
BOTH = ("weights", "qparams")


@pytest.mark.parametrize(
    ("named", "said", "sentence"),
    [
        ((), {}, NOTHING),
        (("weights",), {}, NOTHING),
        (("qparams",), {}, NOTHING),
        (("weights", "model"), {}, "give one or the other"),
        (("qparams", "model"), {}, "give one or the other"),
        (("model",), {}, "`--scheme` is missing"),
        (BOTH, {"rounding": "qtorch"}, "`--rounding` goes with --model"),
        (BOTH, {"scheme": "fp8"}, "is int8, and fp8 is asked for: quantize to that scheme, or leave --scheme out."),
        (BOTH, {"lora": ["lora.safetensors"]}, "`--lora` goes with --model"),
        (("model",), {"scheme": "int8", "rounding": "up"}, "`up` is not a rounding: choose one of nearest-even, qtor"),
        (("model",), {"scheme": "int4"}, "choose int8 or fp8"),
        (("model",), {"scheme": "INT8"}, "choose int8 or fp8"),
        (("model",), {"scheme": "fp8-vllm"}, "choose int8 or fp8"),
    ],
)
def test_what_is_mixed_missing_or_unknown_is_refused(
    models: Paths, smoothed_i2v: dict[str, Any], named: tuple[str, ...], said: dict[str, Any], sentence: str
) -> None:
    made = smoothed_i2v["int8"]
    known = {"model": str(models["t2v"]), "weights": made.weights, "qparams": made.qparams}
    assert sentence in refusal(ExportOptions(**{name: known[name] for name in named}, **said))


def test_what_was_verified_is_said_in_one_line() -> None:
    found = Verification([], tensors=7, weight_snr_db={"transformer": {"a": 41.0, "b": 39.5}})
    assert verified_row(found) == {"verified": "7 tensors; weight SNR 39.5 dB and more"}
    warned = Verification([], ["It is odd."], 7, weight_snr_db={"transformer": {"a": 41.0}})
    assert verified_row(warned)["verified"].endswith("1 warnings, the first: It is odd.")
    assert verified_row(None) == {"verified": "no: --no-verify"}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA over one linear of a text-to-video model."""
    stem = "diffusion_model.blocks.1.self_attn.q"
    pair = {f"{stem}.lora_A.weight": torch.randn(2, 64), f"{stem}.lora_B.weight": torch.randn(64, 2)}
    save_file(pair, tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


def test_a_model_is_converted_with_its_loras_merged(models: Paths, lora: Path, convert: Any) -> None:
    plain, merged = (convert(models["t2v"], lora=loras) for loras in (None, [f"{lora}:0.5"]))
    name = "blocks.1.attn1.to_q"
    source = open_source(str(models["t2v"]), [LoraRequest(lora, 0.5)]).components["transformer"]
    (weight,) = source.plain([f"{name}.weight"]).values()
    ours, expected = merged.components["transformer"].linear(name), quantize_weight(weight, NumberFormat.INT8)
    assert torch.equal(ours.codes, expected.codes)
    assert not torch.equal(ours.codes, plain.components["transformer"].linear(name).codes)
    assert merged.components["transformer"].fingerprint == source.fingerprint
    (entry,) = merged.components["transformer"].lora
    assert (entry["file"], entry["strength"]) == ("lora.safetensors", 0.5)
    assert verify_and_infer(merged, Path("ckpt")).startswith("vq-infer ")  # verify would need the LoRA's file
    recipe = Recipe(scheme="int8", lora=(LoraSettings(path=lora),))
    assert open_model(ExportOptions(model=str(models["t2v"])), recipe).components["transformer"].lora


def test_ignored_linears_cannot_be_exported(models: Paths, road: Recipe) -> None:
    recipe = Recipe(scheme="int8", ignored=(IgnoreRule(blocks=(0,), linears=("attn1.to_q", "ffn.net.2")),))
    sentence = refusal(ExportOptions(model=str(models["t2v"])), recipe)
    assert "ignores blocks.0.attn1.to_q and 1 more of transformer, and here they are quantized" in sentence
    one = road.model_copy(update={"ignored": (IgnoreRule(blocks=(0,), linears=("ffn.net.2",)),)})
    assert "ignores blocks.0.ffn.net.2 of transformer" in refusal(ExportOptions(), one)


def test_ignored_linears_that_were_kept_are_no_obstacle(models: Paths, make_artifacts: Any) -> None:
    made = make_artifacts(models["t2v"], kept=("blocks.0.ffn.net.2", "blocks.1.ffn.net.2"))
    options = ExportOptions(weights=made.weights, qparams=made.qparams)
    model = open_model(options, Recipe(ignored=(IgnoreRule(linears=("ffn.net.2",)),)))
    assert model.kept == {"transformer": ["blocks.0.ffn.net.2", "blocks.1.ffn.net.2"]}
    assert "ignores blocks.0.ffn.net.0.proj of" in refusal(
        options, Recipe(ignored=(IgnoreRule(blocks=(0,), linears=("ffn.net.0.proj",)),))
    )
