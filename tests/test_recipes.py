"""Every recipe that is shipped reads to the settings that its name promises."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vq_algos.rounding.rounders import rounder_named
from vq_algos.smoothing.smoothers import smoother_named
from vq_core.errors import VqError
from vq_core.recipes.named_recipes import named_recipe, recipe_names
from vq_core.recipes.recipe import read_recipe

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
def test_llmc_s_schema_reads_to_what_llmc_does(path: Path) -> None:
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


@pytest.mark.parametrize("bit", [4, 6])
@pytest.mark.parametrize("path", LLMC, ids=lambda path: path.stem)
def test_the_bits_of_llmc_s_examples_that_lightx2v_cannot_run_are_refused(path: Path, bit: int, tmp_path: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in ("weight", "act"):
        document["quant"]["video_gen"][part]["bit"] = bit
    (tmp_path / "edited.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(VqError, match=f"bit` in .* is {bit}, which LightX2V cannot run: set weight and act to 8"):
        read_recipe(tmp_path / "edited.yaml")


def quantization(path: Path) -> str:
    """`int8`, `fp8` or `int8-fast`, as the recipe's name ends."""
    return max((name for name in recipe_names() if path.stem.endswith(f"-{name}")), key=len)


def test_every_model_has_every_named_quantization() -> None:
    models = {path.stem.removesuffix(f"-{quantization(path)}") for path in OURS}
    assert {path.stem for path in OURS} == {f"{model}-{name}" for model in models for name in recipe_names()}
    assert len(models) == 14


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_quantize_as_the_named_recipe_does(path: Path) -> None:
    recipe, named = read_recipe(path), read_recipe(named_recipe(quantization(path)))
    assert (recipe.scheme, recipe.smooth, recipe.quantize) == (named.scheme, named.smooth, named.quantize)
    assert recipe.output == path.parent / "../out" / path.stem


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_say_how_the_model_is_sampled(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.model is not None
    model = path.stem.removesuffix(f"-{quantization(path)}")
    assert recipe.model.lower() == f"wan-ai/{model.removesuffix('-distilled')}-diffusers"
    experts, distilled = "-a14b-" in path.stem, "-distilled-" in path.stem
    loras = {lora.component for lora in recipe.lora}
    assert loras == (({"transformer", "transformer_2"} if experts else {None}) if distilled else set())
    for sampling in (recipe.calib, recipe.eval):
        assert None not in (sampling.prompts, sampling.steps, sampling.height, sampling.width, sampling.num_frames)
        assert (sampling.guidance_scale_2 is not None) == experts
        assert (sampling.steps, sampling.guidance_scale) == (4, 1.0) or not distilled


@pytest.mark.parametrize("name", recipe_names())
def test_the_methods_of_named_recipes_exist(name: str) -> None:
    recipe = read_recipe(Path(name))
    assert recipe.smooth.method is not None
    assert recipe.quantize.method is not None
    smoother_named(recipe.smooth.method)
    rounder_named(recipe.quantize.method)
