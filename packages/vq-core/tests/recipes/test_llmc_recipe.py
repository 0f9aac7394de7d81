"""LLMC's YAML: what each key becomes, and which keys are named in the warning."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.numerics.scheme import Rounding
from vq_core.recipes.recipe import CalibSettings, Recipe

SMOOTHQUANT = Path(__file__).with_name("llmc_smoothquant.yaml").read_text(encoding="utf-8")
FP8 = SMOOTHQUANT.replace("bit: 8\n", "quant_type: float-quant\n            bit: e4m3\n")
CALIB = SMOOTHQUANT[SMOOTHQUANT.index("calib:") : SMOOTHQUANT.index("eval:\n")]

ReadLlmc = Callable[[str], Recipe]


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


def test_smoothquant_int8(read_llmc: ReadLlmc) -> None:
    assert read_llmc(SMOOTHQUANT).model_dump() == {
        "model": "models/wan",
        "scheme": "int8",
        "seed": 42,
        "output": Path("x2v"),
        "lora": (),
        "ignored": (),
        "calib": {
            "prompts": Path("../calib"),
            "steps": 50,
            "height": 320,
            "width": 640,
            "num_frames": 33,
            "guidance_scale": 4.0,
            "guidance_scale_2": None,
            "seed": 42,
            "tokens": None,
        },
        "smooth": {
            "method": "smoothquant",
            "alpha": 0.7,
            "awq_version": None,
            "groups": "llmc",
            "target": None,
            "dtype": None,
        },
        "quantize": {
            "method": "rtn",
            "rounding": Rounding.NEAREST_EVEN,
            "rotate": None,
            "keep_size": None,
            "min_snr": None,
        },
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


def test_what_the_file_leaves_out_gets_llmc_s_default(read_llmc: ReadLlmc) -> None:
    text = SMOOTHQUANT
    for line in ("    target_height: 320\n", "    target_width: 640\n", "    num_frames: 33\n"):
        text = text.replace(line, "")
    text = edited("        special:\n            alpha: 0.7\n", "", edited("    guidance_scale: 4.5\n", "", text))
    recipe = read_llmc(edited("    guidance_scale: 4.0\n", "", text))
    for sampling in (recipe.calib, recipe.eval):
        assert (sampling.height, sampling.width, sampling.num_frames, sampling.guidance_scale) == (480, 832, 81, 5.0)
    assert recipe.smooth.alpha == 0.5


def test_round_to_nearest_needs_no_calibration(read_llmc: ReadLlmc) -> None:
    recipe = read_llmc(edited(CALIB, "", edited("SmoothQuant", "RTN")))
    assert recipe.calib == CalibSettings()
    assert (recipe.smooth.method, recipe.smooth.alpha, recipe.quantize.method) == ("none", None, "rtn")


def test_eval_and_save_may_be_absent(read_llmc: ReadLlmc) -> None:
    start, end = SMOOTHQUANT.index("eval:\n"), SMOOTHQUANT.index("quant:\n")
    recipe = read_llmc(SMOOTHQUANT[:start] + SMOOTHQUANT[end : SMOOTHQUANT.index("save:\n")])
    assert recipe.output is None
    assert recipe.eval.prompts is None


def test_fp8_rounds_as_qtorch_where_the_file_says_so(read_llmc: ReadLlmc) -> None:
    assert read_llmc(FP8).scheme == "fp8"
    assert read_llmc(FP8).quantize.rounding is Rounding.NEAREST_EVEN
    assert read_llmc(weight("use_qtorch: True", FP8)).quantize.rounding is Rounding.QTORCH
    assert read_llmc(weight("use_qtorch: False", FP8)).quantize.rounding is Rounding.NEAREST_EVEN
    assert read_llmc(weight("use_qtorch: True")).quantize.rounding is Rounding.NEAREST_EVEN  # integers always are


@pytest.mark.parametrize(
    ("positions", "variants"),
    [
        ("[pretrain, transformed, fake_quant]", ("full", "smoothed", "fake-quant")),
        ("[fake_quant, fake_quant_wo_kv]", ("fake-quant",)),
        ("[]", None),
    ],
)
def test_eval_pos_becomes_variants(read_llmc: ReadLlmc, positions: str, variants: tuple[str, ...] | None) -> None:
    assert read_llmc(edited("[fake_quant]", positions)).eval.variants == variants


def test_frames_per_second_and_second_guidance_scale(read_llmc: ReadLlmc) -> None:
    text = edited("    guidance_scale: 4.0\n", "    guidance_scale: 4.0\n    guidance_scale_2: 2.0\n")
    recipe = read_llmc(edited("    eval_pos", "    fps: 16\n    eval_pos", text))
    assert (recipe.eval.fps, recipe.calib.guidance_scale_2, recipe.eval.guidance_scale_2) == (16, 2.0, None)


def test_wan22_calibrates_with_llmc_s_low_noise_guidance_and_prefers_the_diffusers_folder(read_llmc: ReadLlmc) -> None:
    text = edited("WanI2V\n", "Wan2T2V\n    diffusers_path: models/wan-diffusers\n").replace("i2v", "t2v")
    recipe = read_llmc(text)
    assert recipe.model == "models/wan-diffusers"
    assert (recipe.calib.guidance_scale_2, recipe.eval.guidance_scale_2) == (3.0, None)


def test_an_evaluation_may_stand_in_a_list_of_one(read_llmc: ReadLlmc) -> None:
    start, end = SMOOTHQUANT.index("eval:\n"), SMOOTHQUANT.index("quant:\n")
    first, *rest = SMOOTHQUANT[start:end].splitlines()[1:]
    listed = "eval:\n  - " + first.strip() + "\n" + "\n".join(rest) + "\n"
    assert read_llmc(SMOOTHQUANT[:start] + listed + SMOOTHQUANT[end:]) == read_llmc(SMOOTHQUANT)


def test_paths_stay_relative_to_the_working_directory(read_llmc: ReadLlmc) -> None:
    assert read_llmc(edited("path: models/wan", "path: ./models/wan")).model == "./models/wan"
    (lora,) = read_llmc(edited("    torch_dtype", "    lora_path: loras/mine\n    torch_dtype")).lora
    assert (lora.path, lora.strength, lora.component) == (Path("loras/mine"), 1.0, None)


def test_one_warning_names_every_key_without_effect(read_llmc: ReadLlmc, caplog: pytest.LogCaptureFixture) -> None:
    text = weight("mse_grid: 50", act("use_qtorch: True", edited("[fake_quant]", "[fake_quant_wo_kv]")))
    text = edited("save_lightx2v: True", "save_lightx2v: False\n    save_trans: True", text)
    text = edited("    torch_dtype", "    tokenizer_mode: fast\n    sample_shift: 3.0\n    torch_dtype", text)
    with caplog.at_level(logging.WARNING, logger="vq_core.recipes.recipe"):
        read_llmc(
            edited(
                "            alpha",
                "            true_sequential: True\n            trans: True\n            alpha",
                text,
            )
        )
    (record,) = caplog.records
    assert record.name == "vq_core.recipes.recipe"
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


def test_keys_that_say_what_happens_anyway_are_not_warned_about(
    read_llmc: ReadLlmc, caplog: pytest.LogCaptureFixture
) -> None:
    text = edited("        special:\n            alpha: 0.7\n", "", edited(CALIB, "", edited("SmoothQuant", "RTN")))
    text = weight("group_size: -1\n            round_zp: True\n            calib_algo: minmax", text)
    read_llmc(edited("    torch_dtype", "    use_cpu_to_save_cuda_mem_for_catcher: False\n    torch_dtype", text))
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (edited("[fake_quant]", "[]"), "`eval.eval_pos` ("),
        (
            f"{SMOOTHQUANT}ignored_layers: {{layer_names: [ffn.net.2]}}\n",
            "`ignored_layers.layer_names` (LLMC reads it only with block_ids)",
        ),
    ],
)
def test_lists_without_effect_are_warned_about(
    read_llmc: ReadLlmc, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    read_llmc(text)
    assert said in caplog.text


AWQ = edited("SmoothQuant", "Awq", edited("            alpha: 0.7\n", "            trans: True\n"))


@pytest.mark.parametrize(
    ("lines", "smooth", "rounder"),
    [
        (["trans: True"], ("awq", "v2", "llmc"), "rtn"),
        (["trans: True", "trans_version: v1"], ("awq", "v1", "llmc"), "rtn"),
        (["trans: True", "trans_version: v2", "weight_clip: True", "clip_sym: True"], ("awq", "v2", "llmc"), "clip"),
        (["trans: True", "weight_clip: False"], ("awq", "v2", "llmc"), "rtn"),
        (["trans: False", "weight_clip: True"], ("none", None, None), "clip"),
    ],
)
def test_awq(read_llmc: ReadLlmc, lines: list[str], smooth: tuple[str | None, ...], rounder: str) -> None:
    recipe = read_llmc(edited("trans: True\n", "\n            ".join(lines) + "\n", AWQ))
    assert (recipe.smooth.method, recipe.smooth.awq_version, recipe.smooth.groups) == smooth
    assert (recipe.quantize.method, recipe.smooth.alpha) == (rounder, None)


def test_awq_s_own_keys_without_effect(read_llmc: ReadLlmc, caplog: pytest.LogCaptureFixture) -> None:
    keys = ("awq_bs: 4", "save_mem: True", "clip_sym: False", "save_clip: True", "clip_path: c", "alpha: 0.3")
    read_llmc(edited("trans: True\n", "\n            ".join(["trans: True", *keys]) + "\n", AWQ))
    for key in keys:
        assert f"`quant.video_gen.special.{key.split(':')[0]}` (" in caplog.text
    assert "special.trans`" not in caplog.text


@pytest.mark.parametrize(
    ("section", "rules"),
    [
        ("{block_ids: [0, 38-39]}", [(("0", "38-39"), ())]),
        ("{block_ids: [1], layer_names: [ffn.net.2]}", [(("1",), ("ffn.net.2",))]),
        ("{layer_names: [ffn.net.2]}", []),
        (
            "{block_ids: [0-1], layer_names: [ffn.net.2], speical_names: [blocks.1.attn1.to_q, blocks.7.attn1.to_q]}",
            [(("0-1",), ("ffn.net.2",)), (("7",), ("attn1.to_q",))],
        ),
        ("{special_names: [blocks.3.ffn.net.0.proj]}", [(("3",), ("ffn.net.0.proj",))]),
        ("{block_ids: []}", []),
    ],
)
def test_ignored_layers(read_llmc: ReadLlmc, section: str, rules: list[object]) -> None:
    ignored = read_llmc(f"{SMOOTHQUANT}ignored_layers: {section}\n").ignored
    assert [(tuple(map(str, rule.blocks)), rule.linears) for rule in ignored] == rules
