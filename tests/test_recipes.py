"""Every recipe that is shipped reads to the settings that its name promises."""

from pathlib import Path

import pytest

from vq_algos.rounding.rounders import rounder_named
from vq_algos.smoothing.smoothers import smoother_named
from vq_core.families.wan.sampling import USUAL
from vq_core.recipes.named_recipes import recipe_names
from vq_core.recipes.recipe import read_recipe, resolve

RECIPES = Path(__file__).parents[1] / "recipes"
OURS = sorted(RECIPES.glob("*.yaml"))
LLMC = sorted((RECIPES / "llmc").glob("*.yaml"))

# What LLMC's files ask for, named as here: model, scheme, smoothing and its setting, rounding, LoRA, calibration.
I2V, T2V, WAN22 = "Wan2.1-I2V-14B-480P-Diffusers", "Wan2.1-T2V-14B-Diffusers", "Wan2.2-T2V-A14B-Diffusers"
SETTINGS: dict[str, tuple[str, str, str, object, str, bool, bool]] = {
    "wan_i2v_rtn_int8": (I2V, "int8", "none", None, "rtn", False, False),
    "wan_i2v_rtn_int8_lora": (I2V, "int8", "none", None, "rtn", True, False),
    "wan_i2v_smoothquant_int8": (I2V, "int8", "smoothquant", 0.75, "rtn", False, True),
    "wan_i2v_smoothquant_int8_lora": (I2V, "int8", "smoothquant", 0.75, "rtn", True, True),
    "wan_i2v_smoothquant_fp8": (I2V, "fp8", "smoothquant", 0.75, "rtn", False, True),
    "wan_i2v_awq_int8": (I2V, "int8", "awq", "v2", "rtn", False, True),
    "wan_t2v_rtn_int8": (T2V, "int8", "none", None, "rtn", False, False),
    "wan_t2v_smoothquant_int8": (T2V, "int8", "smoothquant", 0.7, "rtn", False, True),
    "wan_t2v_awq_int8": (T2V, "int8", "awq", "v2", "clip", False, True),
    "wan2_2_t2v_awq_int8": (WAN22, "int8", "awq", "v2", "clip", False, True),
}


def test_every_recipe_in_llmc_s_schema_is_listed() -> None:
    assert {path.stem for path in LLMC} == set(SETTINGS)


@pytest.mark.parametrize("path", LLMC, ids=lambda path: path.stem)
def test_recipes_in_llmc_s_schema_have_its_settings(path: Path) -> None:
    recipe = read_recipe(path)
    model, scheme, smoother, setting, rounder, has_lora, calibrates = SETTINGS[path.stem]
    assert (recipe.model, recipe.scheme) == (f"path/to/{model}", scheme)
    assert (recipe.smooth.method, recipe.quantize.method) == (smoother, rounder)
    assert {"smoothquant": recipe.smooth.alpha, "awq": recipe.smooth.awq_version}.get(smoother) == setting
    assert recipe.smooth.groups == (None if smoother == "none" else "llmc")
    assert recipe.quantize.rounding == ("qtorch" if scheme == "fp8" else "nearest-even")
    assert [lora.path for lora in recipe.lora] == [Path("path/to/lora")] * has_lora
    assert (recipe.calib.prompts is not None) == calibrates
    assert recipe.calib.guidance_scale_2 == (3.0 if path.stem.startswith("wan2_2") else None)
    assert recipe.seed == 42
    assert recipe.ignored == ()


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_quantize_as_int8_does(path: Path) -> None:
    recipe, named = read_recipe(path), read_recipe(Path("int8"))
    smoothing = {name: resolve(said, None, getattr(named.smooth, name)) for name, said in recipe.smooth}
    assert (recipe.scheme, smoothing, recipe.quantize) == (named.scheme, dict(named.smooth), named.quantize)
    assert recipe.output == path.parent / "../out" / path.stem


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_differ_from_the_usual_sampling(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.model is not None
    assert recipe.model.lower() == f"wan-ai/{path.stem.removesuffix('-distilled')}-diffusers"
    model_type, experts = ("i2v" if "-i2v-" in path.stem else "t2v"), (2 if "-a14b-" in path.stem else 1)
    usual = USUAL[model_type, experts]
    for settings in (recipe.calib, recipe.eval):
        said = settings.model_dump(include=set(usual), exclude_none=True)
        assert said
        assert all(usual[key] != value for key, value in said.items())
    assert bool(recipe.lora) == path.stem.endswith("-distilled")
    assert recipe.calib.prompts != recipe.eval.prompts


def test_a_distilled_model_has_a_lora_for_each_expert_and_no_guidance() -> None:
    for path in OURS:
        if not path.stem.endswith("-distilled"):
            continue
        recipe = read_recipe(path)
        experts = {"transformer", "transformer_2"} if "-a14b-" in path.stem else {None}
        assert {lora.component for lora in recipe.lora} == experts
        assert {(said.steps, said.guidance_scale) for said in (recipe.calib, recipe.eval)} == {(4, 1.0)}


@pytest.mark.parametrize("name", recipe_names())
def test_the_methods_of_named_recipes_exist(name: str) -> None:
    recipe = read_recipe(Path(name))
    assert recipe.smooth.method is not None
    assert recipe.quantize.method is not None
    smoother_named(recipe.smooth.method)
    rounder_named(recipe.quantize.method)
