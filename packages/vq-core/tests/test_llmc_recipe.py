"""LLMC's YAML: what each key becomes, which keys are named in the warning, and what is refused."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.recipe import CalibSettings, Recipe, read_recipe
from vq_core.scheme import Rounding

SMOOTHQUANT = """\
base:
    seed: &seed 42
model:
    type: WanI2V
    path: models/wan
    torch_dtype: auto
calib:
    name: i2v
    download: False
    path: ../calib/
    sample_steps: 40
    bs: 1
    target_height: 320
    target_width: 640
    num_frames: 33
    guidance_scale: 4.0
    seed: *seed
eval:
    eval_pos: [fake_quant]
    type: video_gen
    name: i2v
    download: False
    path: ../eval/
    bs: 1
    target_height: 320
    target_width: 640
    num_frames: 33
    guidance_scale: 4.5
    output_video_path: ./videos/
quant:
    video_gen:
        method: SmoothQuant
        weight:
            bit: 8
            symmetric: True
            granularity: per_channel
        act:
            bit: 8
            symmetric: True
            granularity: per_token
        special:
            alpha: 0.7
save:
    save_lightx2v: True
    save_path: ./x2v/
"""
FP8 = SMOOTHQUANT.replace("bit: 8\n", "quant_type: float-quant\n            bit: e4m3\n")
CALIB = SMOOTHQUANT[SMOOTHQUANT.index("calib:") : SMOOTHQUANT.index("eval:\n")]

Read = Callable[[str], Recipe]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str) -> Recipe:
        path = tmp_path / "llmc.yaml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path)

    return read_text


def edited(old: str, new: str, text: str = SMOOTHQUANT) -> str:
    """`text` with `old`, which it holds, replaced once."""
    assert old in text
    return text.replace(old, new, 1)


def weight(line: str, text: str = SMOOTHQUANT) -> str:
    """`text` with one more line in `quant.video_gen.weight`."""
    return edited("        weight:\n", f"        weight:\n            {line}\n", text)


def act(line: str, text: str = SMOOTHQUANT) -> str:
    """`text` with one more line in `quant.video_gen.act`."""
    return edited("        act:\n", f"        act:\n            {line}\n", text)


def test_smoothquant_int8(read: Read) -> None:
    assert read(SMOOTHQUANT).model_dump() == {
        "model": "models/wan",
        "scheme": "int8",
        "seed": 42,
        "output": Path("x2v"),
        "calib": {
            "prompts": Path("../calib"),
            "steps": 50,
            "height": 320,
            "width": 640,
            "num_frames": 33,
            "guidance_scale": 4.0,
            "guidance_scale_2": None,
            "seed": 42,
        },
        "smooth": {"method": "smoothquant", "alpha": 0.7, "groups": "llmc", "dtype": None},
        "quantize": {"method": "rtn", "rounding": Rounding.NEAREST_EVEN},
        "eval": {
            "prompts": Path("../eval"),
            "steps": 50,
            "height": 320,
            "width": 640,
            "num_frames": 33,
            "guidance_scale": 4.5,
            "guidance_scale_2": None,
            "fps": 15,
            "variants": ("fake-quant",),
            "output": Path("videos"),
        },
    }


def test_what_the_file_leaves_out_gets_llmc_s_default(read: Read) -> None:
    text = SMOOTHQUANT
    for line in ("    target_height: 320\n", "    target_width: 640\n", "    num_frames: 33\n"):
        text = text.replace(line, "")
    text = edited("        special:\n            alpha: 0.7\n", "", edited("    guidance_scale: 4.5\n", "", text))
    recipe = read(edited("    guidance_scale: 4.0\n", "", text))
    for sampling in (recipe.calib, recipe.eval):
        assert (sampling.height, sampling.width, sampling.num_frames, sampling.guidance_scale) == (480, 832, 81, 5.0)
    assert recipe.smooth.alpha == 0.5


def test_round_to_nearest_needs_no_calibration(read: Read) -> None:
    recipe = read(edited(CALIB, "", edited("SmoothQuant", "RTN")))
    assert recipe.calib == CalibSettings()
    assert (recipe.smooth.method, recipe.smooth.alpha, recipe.quantize.method) == ("none", None, "rtn")


def test_eval_and_save_may_be_absent(read: Read) -> None:
    start, end = SMOOTHQUANT.index("eval:\n"), SMOOTHQUANT.index("quant:\n")
    recipe = read(SMOOTHQUANT[:start] + SMOOTHQUANT[end : SMOOTHQUANT.index("save:\n")])
    assert recipe.output is None
    assert recipe.eval.prompts is None


def test_fp8_rounds_as_qtorch_where_the_file_says_so(read: Read) -> None:
    assert read(FP8).scheme == "fp8"
    assert read(FP8).quantize.rounding is Rounding.NEAREST_EVEN
    assert read(weight("use_qtorch: True", FP8)).quantize.rounding is Rounding.QTORCH
    assert read(weight("use_qtorch: False", FP8)).quantize.rounding is Rounding.NEAREST_EVEN


def test_integers_are_rounded_to_even_whatever_use_qtorch_says(read: Read) -> None:
    assert read(weight("use_qtorch: True")).quantize.rounding is Rounding.NEAREST_EVEN


@pytest.mark.parametrize(
    ("positions", "variants"),
    [
        ("[pretrain, transformed, fake_quant]", ("full", "smoothed", "fake-quant")),
        ("[fake_quant, fake_quant_wo_kv]", ("fake-quant",)),
        ("[]", None),
    ],
)
def test_eval_pos_becomes_variants(read: Read, positions: str, variants: tuple[str, ...] | None) -> None:
    assert read(edited("[fake_quant]", positions)).eval.variants == variants


def test_frames_per_second_and_second_guidance_scale(read: Read) -> None:
    text = edited("    guidance_scale: 4.0\n", "    guidance_scale: 4.0\n    guidance_scale_2: 2.0\n")
    recipe = read(edited("    eval_pos", "    fps: 16\n    eval_pos", text))
    assert (recipe.eval.fps, recipe.calib.guidance_scale_2, recipe.eval.guidance_scale_2) == (16, 2.0, None)


def test_wan22_calibrates_with_llmc_s_low_noise_guidance_and_prefers_the_diffusers_folder(read: Read) -> None:
    text = edited("WanI2V\n", "Wan2T2V\n    diffusers_path: models/wan-diffusers\n").replace("i2v", "t2v")
    recipe = read(text)
    assert recipe.model == "models/wan-diffusers"
    assert (recipe.calib.guidance_scale_2, recipe.eval.guidance_scale_2) == (3.0, None)


def test_an_evaluation_may_stand_in_a_list_of_one(read: Read) -> None:
    start, end = SMOOTHQUANT.index("eval:\n"), SMOOTHQUANT.index("quant:\n")
    first, *rest = SMOOTHQUANT[start:end].splitlines()[1:]
    listed = "eval:\n  - " + first.strip() + "\n" + "\n".join(rest) + "\n"
    assert read(SMOOTHQUANT[:start] + listed + SMOOTHQUANT[end:]) == read(SMOOTHQUANT)


def test_paths_stay_relative_to_the_working_directory(read: Read) -> None:
    assert read(edited("path: models/wan", "path: ./models/wan")).model == "./models/wan"


def test_one_warning_names_every_key_without_effect(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    text = weight("mse_grid: 50", act("use_qtorch: True", edited("[fake_quant]", "[fake_quant_wo_kv]")))
    text = edited("save_lightx2v: True", "save_lightx2v: False\n    save_trans: True", text)
    text = edited("    torch_dtype", "    tokenizer_mode: fast\n    sample_shift: 3.0\n    torch_dtype", text)
    with caplog.at_level(logging.WARNING, logger="vq_core.recipe"):
        read(
            edited(
                "            alpha",
                "            true_sequential: True\n            trans: True\n            alpha",
                text,
            )
        )
    (record,) = caplog.records
    assert record.name == "vq_core.recipe"
    for key in (
        "model.tokenizer_mode",
        "model.sample_shift",
        "calib.sample_steps",
        "quant.video_gen.weight.mse_grid",
        "quant.video_gen.act.use_qtorch",
        "quant.video_gen.special.true_sequential",
        "quant.video_gen.special.trans",
        "save.save_lightx2v",
        "save.save_trans",
        "fake_quant_wo_kv",
    ):
        assert f"`{key}` (" in record.message
    assert record.message.count("` (") == 10


def test_keys_that_say_what_happens_anyway_are_not_warned_about(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    text = edited(CALIB, "", edited("SmoothQuant", "RTN"))
    text = weight("group_size: -1\n            round_zp: True\n            calib_algo: minmax", text)
    read(edited("    torch_dtype", "    use_cpu_to_save_cuda_mem_for_catcher: False\n    torch_dtype", text))
    assert not caplog.records


def test_an_empty_eval_pos_is_warned_about(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    read(edited("[fake_quant]", "[]"))
    assert "`eval.eval_pos` (" in caplog.text


QUANT = "quant.video_gen"
REFUSALS = {
    "6 bit": (
        edited("bit: 8", "bit: 6"),
        f"`{QUANT}.weight.bit` in",
        "is 6, which LightX2V cannot run: set weight and act to 8",
    ),
    "e5m2": (FP8.replace("e4m3", "e5m2"), f"`{QUANT}.weight.bit` in", "is 'e5m2', which LightX2V cannot run"),
    "bit as a string": (edited("bit: 8", 'bit: "8"'), f"`{QUANT}.weight.bit` in", "is '8', which LightX2V cannot run"),
    "bit as a float": (edited("bit: 8", "bit: 8.0"), f"`{QUANT}.weight.bit` in", "is 8.0, which LightX2V cannot run"),
    "e4m3 of integers": (edited("bit: 8", "bit: e4m3"), f"`{QUANT}.weight` in", "int-quant has no bit e4m3"),
    "mixed formats": (
        FP8[: FP8.index("        act:")] + SMOOTHQUANT[SMOOTHQUANT.index("        act:") :],
        f"`{QUANT}` in",
        "one format for weight and act",
    ),
    "weight-only": (
        edited(
            "        act:\n            bit: 8\n            symmetric: True\n            granularity: per_token\n", ""
        ),
        f"`{QUANT}` in",
        "weight-only, and LightX2V cannot run that: add `act` with bit 8",
    ),
    "static activations": (act("static: True"), f"`{QUANT}.act.static` in", "set it to False"),
    "asymmetric": (edited("symmetric: True", "symmetric: False"), f"`{QUANT}.weight.symmetric` in", "set it to True"),
    "per group": (edited("per_channel", "per_group"), f"`{QUANT}.weight.granularity` in", "set it to per_channel"),
    "per tensor activations": (
        edited("per_token", "per_tensor"),
        f"`{QUANT}.act.granularity` in",
        "set it to per_token",
    ),
    "searched range": (weight("calib_algo: mse"), f"`{QUANT}.weight.calib_algo` in", "set it to minmax"),
    "own code range": (weight("int_range: [-128, 127]"), f"`{QUANT}.weight.int_range` in", "±127"),
    "quantized attention": (act("quant_attn: True"), f"`{QUANT}.act.quant_attn` in", "not available"),
    "mixed precision": (
        SMOOTHQUANT + "ignored_layers: {block_ids: [0, 39], layer_names: [ffn.net.2]}\n",
        "`ignored_layers.block_ids` in",
        "LightX2V runs one scheme for every linear",
    ),
    "awq": (
        edited("SmoothQuant", "Awq"),
        f"`{QUANT}.method` in",
        "is 'Awq', which is not available yet; known: RTN, SmoothQuant",
    ),
    "gptq, with its own keys": (
        edited("SmoothQuant", "GPTQ").replace("alpha: 0.7", "percdamp: 0.01"),
        f"`{QUANT}.method` in",
        "not available yet; known: RTN, SmoothQuant",
    ),
    "kv cache": (
        edited("        special:", "        kvcache: {method: Naive}\n        special:"),
        f"`{QUANT}.kvcache` in",
        "no KV cache",
    ),
    "clipping": (edited("alpha: 0.7", "weight_clip: True"), f"`{QUANT}.special.weight_clip` in", "not available"),
    "language model quantization": (edited("video_gen:", "language:"), "`quant.", "known here: video_gen"),
    "lora": (
        edited("    torch_dtype", "    lora_path: lora\n    torch_dtype"),
        "`model.lora_path` in",
        "merge it into the model first",
    ),
    "expression as dtype": (edited("dtype: auto", "dtype: torch.bfloat16"), "`model.torch_dtype` in", "set it to auto"),
    "language model": (edited("WanI2V", "Llama"), "`model.type` in", "WanT2V, WanI2V or Wan2T2V"),
    "task of another model": (
        edited("WanI2V", "WanT2V"),
        "`calib.name` is i2v, but `model.type` is WanT2V",
        "set the name to t2v",
    ),
    "smoothquant without calibration": (edited(CALIB, ""), "add the section `calib`", ""),
    "batches": (edited("bs: 1", "bs: 2"), "`calib.bs` in", "set it to 1"),
    "download": (edited("download: False", "download: True"), "`calib.download` in", "set it to False"),
    "evaluation of perplexity": (edited("type: video_gen", "type: ppl"), "`eval.type` in", "set it to video_gen"),
    "unknown eval_pos": (edited("[fake_quant]", "[fake]"), "`eval.eval_pos.0` in", "'pretrain', 'transformed'"),
    "two evaluations": (
        edited("eval:\n", "eval: [{name: i2v}, {name: i2v}]\nunused:\n"),
        "`eval` in",
        "write one recipe for each",
    ),
    "export to vllm": (edited("save_lightx2v", "save_vllm"), "`save.save_vllm` in", "set save_lightx2v to True"),
    "fake-quantized weights": (
        edited("save_lightx2v", "save_fake"),
        "`save.save_fake` in",
        "set save_lightx2v to True",
    ),
    "misspelt key": (
        edited("target_height", "target_heigth"),
        "`calib.target_heigth` in",
        "did you mean `target_height`?",
    ),
    "misspelt key that is required": (edited("method:", "methods:"), f"`{QUANT}.methods` in", "did you mean `method`?"),
    "misspelt section": (edited("calib:", "calibration:"), "`calibration` in", "did you mean `calib`?"),
    "missing key": (edited("    path: models/wan\n", ""), "`model.path` is missing in", ""),
    "string for a number": (
        edited("num_frames: 33", 'num_frames: "33"'),
        "`calib.num_frames` in",
        "it should be a valid integer",
    ),
    "string for a bool": (
        edited("symmetric: True", 'symmetric: "True"'),
        f"`{QUANT}.weight.symmetric` in",
        "valid boolean",
    ),
    "number for a path": (edited("save_path: ./x2v/", "save_path: 3"), "`save.save_path` in", "valid string"),
    "key twice": (SMOOTHQUANT + "base: {seed: 1}\n", "`base` is given twice in", "keep one of them"),
}


@pytest.mark.parametrize(("text", "where", "what"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_in_one_sentence(read: Read, text: str, where: str, what: str) -> None:
    with pytest.raises(VqError) as refused:
        read(text)
    assert where in str(refused.value)
    assert what in str(refused.value)
    assert "llmc.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)
