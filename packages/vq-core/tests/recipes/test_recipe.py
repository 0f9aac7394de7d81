"""Our YAML: what is read, what is refused and how, and which of option, recipe and default wins."""

from pathlib import Path
from typing import get_args

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.numerics.scheme import SCHEMES, Rounding
from vq_core.recipes.ignored import IgnoreRule
from vq_core.recipes.recipe import (
    DEFAULTS,
    Artifact,
    Recipe,
    ignored_of,
    loras_of,
    read_recipe,
    resolve,
)
from vq_core.remote.location import Uri

WHOLE = """
model: Wan-AI/Wan2.1-I2V-14B-480P-Diffusers
scheme: fp8
seed: 7
output: out
lora: [{path: lora.safetensors, strength: 0.5, component: transformer_2}, {path: /data/lora}]
ignored: [{blocks: [0, "38-39"]}, {linears: [ffn.net.2]}]
calib: {prompts: prompts, steps: 20, height: 320, width: 640, num_frames: 33, guidance_scale: 4,
        guidance_scale_2: 3.5, seed: 8, tokens: 512}
smooth: {method: smoothquant, alpha: 0.6, awq_version: v1, groups: llmc, target: comfyui, dtype: bf16}
quantize: {method: rtn, rounding: qtorch, rotate: all, keep_size: 2GiB, min_snr: 30.0}
eval: {prompts: /data/eval, steps: 30, height: 480, width: 832, num_frames: 81, guidance_scale: 5.0,
       fps: 24, variants: [full, smoothed, fake-quant], output: videos}
"""


@pytest.fixture
def recipe_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_setting_arrives_with_its_type(recipe_file) -> None:
    recipe = read_recipe(recipe_file(WHOLE))
    folder = recipe_file("").parent
    assert recipe.model_dump() == {
        "model": "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        "scheme": "fp8",
        "seed": 7,
        "output": folder / "out",
        "lora": (
            {"path": folder / "lora.safetensors", "strength": 0.5, "component": "transformer_2"},
            {"path": Path("/data/lora"), "strength": 1.0, "component": None},
        ),
        "ignored": ({"blocks": (0, "38-39"), "linears": ()}, {"blocks": (), "linears": ("ffn.net.2",)}),
        "calib": {
            "prompts": folder / "prompts",
            "steps": 20,
            "height": 320,
            "width": 640,
            "num_frames": 33,
            "guidance_scale": 4.0,
            "guidance_scale_2": 3.5,
            "seed": 8,
            "tokens": 512,
        },
        "smooth": {
            "method": "smoothquant",
            "alpha": 0.6,
            "awq_version": "v1",
            "groups": "llmc",
            "target": "comfyui",
            "dtype": "bf16",
        },
        "quantize": {
            "method": "rtn",
            "rounding": Rounding.QTORCH,
            "rotate": "all",
            "keep_size": "2GiB",
            "min_snr": 30.0,
        },
        "eval": {
            "prompts": Path("/data/eval"),
            "steps": 30,
            "height": 480,
            "width": 832,
            "num_frames": 81,
            "guidance_scale": 5.0,
            "guidance_scale_2": None,
            "fps": 24,
            "variants": ("full", "smoothed", "fake-quant"),
            "output": folder / "videos",
        },
    }


def test_without_a_file_nothing_is_said() -> None:
    assert read_recipe(None) == Recipe()
    empty = {"lora": (), "ignored": (), "calib": {}, "smooth": {}, "quantize": {}, "eval": {}}
    assert Recipe().model_dump(exclude_none=True) == empty


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().seed = 3


@pytest.mark.parametrize("name", [*SCHEMES, "w4a8+int8"])
def test_every_scheme_is_known_and_any_number_of_them(recipe_file, name: str) -> None:
    assert read_recipe(recipe_file(f"scheme: {name}")).scheme == name


@pytest.mark.parametrize("name", ["int4", "int8+int4", "int8+int8"])
def test_another_scheme_is_refused(recipe_file, name: str) -> None:
    with pytest.raises(VqError, match=r"which is no scheme: .*, or several joined by \+\.$"):
        read_recipe(recipe_file(f"scheme: {name}"))


@pytest.mark.parametrize("model", ["Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "/models/wan", "hf://Wan-AI/x"])
def test_a_hub_id_or_absolute_model_stays_as_it_is(recipe_file, model: str) -> None:
    assert read_recipe(recipe_file(f"model: {model}")).model == model


@pytest.mark.parametrize("model", ["./wan", "../wan"])
def test_a_model_with_a_leading_dot_is_relative_to_the_recipe(recipe_file, monkeypatch, model: str) -> None:
    path = recipe_file(f"model: {model}")
    monkeypatch.chdir(path.parent)
    assert read_recipe(Path("recipe.yaml")).model == str(path.parent / model)


@pytest.mark.parametrize("artifact", get_args(Artifact))
def test_each_artifact_has_its_folder_below_the_output(artifact: Artifact) -> None:
    assert Recipe(output=Path("/out")).path_of(artifact) == Path("/out") / artifact
    assert Recipe().path_of(artifact) is None


def test_the_videos_go_where_the_eval_section_says(recipe_file) -> None:
    recipe = read_recipe(recipe_file("output: /out\neval: {output: /videos}"))
    assert recipe.path_of("videos") == Path("/videos")
    assert recipe.path_of("report") == Path("/out/report")


@pytest.mark.parametrize(
    ("text", "seed"),
    [("seed: 1", 1), ("seed: 1\ncalib: {seed: 0}", 0), ("calib: {seed: 2}", 2), ("scheme: int8", None)],
)
def test_the_seed_of_calibration_is_its_own_or_the_recipe_s(recipe_file, text: str, seed: int | None) -> None:
    assert read_recipe(recipe_file(text)).calib_seed == seed


@given(st.none() | st.integers(), st.none() | st.integers(), st.integers())
def test_an_option_beats_the_recipe_and_the_recipe_beats_the_default(
    option: int | None, said: int | None, default: int
) -> None:
    assert resolve(option, said, default) == next(value for value in (option, said, default) if value is not None)


@pytest.mark.parametrize("falsy", [0, 0.0, "", False, ()])
def test_a_falsy_option_is_an_option(falsy: object) -> None:
    assert resolve(falsy, 1, 2) == falsy
    assert resolve(None, falsy, 2) == falsy


def test_defaults_are_those_of_wan() -> None:
    assert (DEFAULTS.steps, DEFAULTS.width, DEFAULTS.height, DEFAULTS.num_frames) == (40, 832, 480, 81)
    assert (DEFAULTS.guidance_scale, DEFAULTS.fps, DEFAULTS.alpha, DEFAULTS.groups) == (5.0, 16, 0.75, "all")


def test_options_take_the_place_of_the_recipe_s_loras_and_rules(recipe_file) -> None:
    recipe = read_recipe(recipe_file(WHOLE))
    assert loras_of(None, recipe) == (
        LoraRequest(recipe_file("").parent / "lora.safetensors", 0.5, "transformer_2"),
        LoraRequest(Path("/data/lora")),
    )
    assert loras_of(["a:2"], recipe) == (LoraRequest(Path("a"), 2.0),)
    assert ignored_of([], recipe) == recipe.ignored
    assert ignored_of(["1", "2:ffn.net.2"], recipe) == (
        IgnoreRule(blocks=(1,)),
        IgnoreRule(blocks=(2,), linears=("ffn.net.2",)),
    )


REFUSALS = {
    "lora without a path": ("lora: [{strength: 1.0}]", "`lora.0.path` is missing in {file}: add it."),
    "one lora, not a list": ("lora: {path: a}", "`lora` in {file} is {{'path': 'a'}}: it should be a valid list."),
    "rule about nothing": ("ignored: [{}]", "`ignored.0` in {file} is {{}}, which names nothing: give `blocks`, `li"),
    "blocks that are no range": ("ignored: [{blocks: [3-x]}]", "neither a block nor a range of blocks: write 38"),
    "unknown key of a rule": ("ignored: [{layers: [a]}]", "known here: blocks, linears."),
    "unknown key": (
        "shceme: int8",
        "`shceme` in {file} is not a known key (did you mean `scheme`?); known here: model, ",
    ),
    "string for a number": ('calib: {steps: "40"}', "`calib.steps` in {file} is '40': it should be a valid integer."),
    "word for a number": ("calib: {guidance_scale: five}", "`calib.guidance_scale` in {file} is 'five': it should be"),
    "float for an integer": ("calib: {steps: 40.0}", "`calib.steps` in {file} is 40.0: it should be a valid integer."),
    "bool for an integer": ("seed: yes", "`seed` in {file} is True: it should be a valid integer."),
    "number for a path": ("output: 3", "`output` in {file} is 3: it should be a path."),
    "number for a name": ("smooth: {method: 3}", "`smooth.method` in {file} is 3: it should be a valid string."),
    "unknown scheme": (
        "scheme: int6",
        "`scheme` in {file} is 'int6', which is no scheme: give one of int8, fp8, w6a8, w4a8, or several joined by +.",
    ),
    "unknown rounding": ("quantize: {rounding: up}", "it should be 'nearest-even' or 'qtorch'."),
    "unknown variant": (
        "eval: {variants: [fullest]}",
        "`eval.variants.0` in {file} is 'fullest': it should be 'full',",
    ),
    "one variant, not a list": (
        "eval: {variants: full}",
        "`eval.variants` in {file} is 'full': it should be a valid list.",
    ),
    "no variant": ("eval: {variants: []}", "`eval.variants` in {file} is []"),
    "too many steps": ("calib: {steps: 1001}", "`calib.steps` in {file} is 1001: it should be less than"),
    "infinite guidance": ("eval: {guidance_scale: .inf}", "`eval.guidance_scale` in {file} is inf: it should be"),
    "guidance that is NaN": (
        "eval: {guidance_scale_2: .nan}",
        "`eval.guidance_scale_2` in {file} is nan: it should",
    ),
    "negative guidance": ("eval: {guidance_scale: -1}", "`eval.guidance_scale` in {file} is -1: it should be greater"),
    "a seed beyond 64 bits": ("seed: 18446744073709551616", "`seed` in {file} is 18446744073709551616: it should be"),
    "infinite strength": ("lora: [{path: a.safetensors, strength: .inf}]", "`lora.0.strength` in {file} is inf: it"),
    "zero steps": ("calib: {steps: 0}", "`calib.steps` in {file} is 0: it should be greater than or equal to 1."),
    "unknown version of awq": ("smooth: {awq_version: v3}", "is 'v3': it should be 'v1' or 'v2'."),
    "alpha above one": (
        "smooth: {alpha: 1.5}",
        "`smooth.alpha` in {file} is 1.5: it should be less than or equal to 1.",
    ),
    "alpha not a number": ("smooth: {alpha: .nan}", "`smooth.alpha` in {file} is nan: it should be"),
    "empty section": ("calib:", "`calib` in {file} is None: it should be a section of `key: value` lines."),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_in_one_sentence(recipe_file, text: str, sentence: str) -> None:
    path = recipe_file(text)
    with pytest.raises(VqError) as refused:
        read_recipe(path)
    assert sentence.format(file=path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_further_mistakes_are_counted(recipe_file) -> None:
    with pytest.raises(VqError, match=r"`seed`.*\(Further mistakes: 2\.\)"):
        read_recipe(recipe_file("seed: a\ncalib: {steps: b}\nsmooth: {alpha: c}"))


@pytest.mark.parametrize(
    ("text", "needless"),
    [
        ("smooth: {method: none}", True),
        ("{smooth: {method: none}, quantize: {method: rtn}}", True),
        ("{smooth: {method: none}, quantize: {method: clip}}", False),
        ("quantize: {method: rtn}", False),
    ],
)
def test_statistics_are_needed_by_whatever_smooths_or_searches(recipe_file, text: str, needless: bool) -> None:
    assert read_recipe(recipe_file(text)).needs_no_statistics is needless


def test_a_recipe_in_a_bucket(memory: MemoryFileSystem) -> None:
    text = "{model: ./wan, output: out, calib: {prompts: ../prompts}, lora: [{path: 's3://b/x.safetensors'}]}"
    memory.pipe("/recipes/mine/recipe.yaml", text.encode())
    recipe = read_recipe(Uri("memory", "recipes/mine/recipe.yaml"))
    assert recipe.model == "memory://recipes/mine/wan"
    assert recipe.path_of("quant-params") == Uri("memory", "recipes/mine/out/quant-params")
    assert recipe.calib.prompts == Uri("memory", "recipes/prompts")
    assert [lora.path for lora in loras_of(None, recipe)] == [Uri("s3", "b/x.safetensors")]


def test_paths_in_a_recipe_may_be_uris(recipe_file) -> None:
    recipe = read_recipe(recipe_file("{output: 's3://bucket/run', eval: {output: 'gs://videos'}}"))
    assert recipe.path_of("activation-stats") == Uri("s3", "bucket/run/activation-stats")
    assert recipe.path_of("videos") == Uri("gs", "videos")
