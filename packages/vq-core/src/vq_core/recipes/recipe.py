"""A recipe: the settings of every stage in one YAML file, ours or LLMC's.

Every setting is optional, and `None` means "not said". A stage takes an explicit option, else what the recipe says,
else what is known of the model or `DEFAULTS`: see `resolve` and `vq_core.sampling.model_defaults`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest, parse_lora
from vq_core.numerics.scheme import MIX, SCHEMES, Rounding, schemes_named
from vq_core.recipes.ignored import IgnoreRule, parse_ignored
from vq_core.recipes.llmc_recipe import from_llmc, is_llmc
from vq_core.recipes.named_prompts import is_prompt_set
from vq_core.recipes.named_recipes import named_recipe
from vq_core.recipes.ranges import Decibels, FrameCount, FrameRate, Guidance, Seed, Share, Side, Steps, TokenCount
from vq_core.recipes.typed_yaml import Section, load_yaml, validated
from vq_core.remote.location import Location, Uri, join, parse_location
from vq_core.remote.transfer import local_copy

Artifact = Literal["activation-stats", "smoothed-weights", "quant-params", "lightx2v", "videos", "report"]
Groups = Literal["llmc", "all"]
FoldedDtype = Literal["fp32", "bf16"]
AwqVersion = Literal["v1", "v2"]
Variant = Literal["full", "floor", "smoothed", "fake-quant"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Defaults:
    """What holds where neither an option nor a recipe says anything.

    Units: `height` and `width` in pixels, `fps` in frames per second. `guidance_scale_2` is for the low-noise expert;
    None means `guidance_scale`.
    """

    steps: int = 40
    height: int = 480
    width: int = 832
    num_frames: int = 81
    guidance_scale: float = 5.0
    guidance_scale_2: float | None = None
    fps: int = 16
    seed: int = 42
    smooth_method: str = "smoothquant"
    alpha: float = 0.75
    awq_version: AwqVersion = "v2"
    groups: Groups = "all"
    target: str = "lightx2v"
    folded_dtype: FoldedDtype = "fp32"
    quantize_method: str = "rtn"
    rounding: Rounding = Rounding.NEAREST_EVEN
    variants: tuple[Variant, ...] = ("full", "fake-quant")

    def with_said(self, said: Mapping[str, Any]) -> "Defaults":
        """These with what is `said` in their place; a guidance scale that stands alone is for both experts."""
        return replace(self, **({"guidance_scale_2": None} if "guidance_scale" in said else {}) | dict(said))


DEFAULTS = Defaults()


def resolve(option: Value | None, recipe_value: Value | None, default: Value) -> Value:
    """An explicit option beats the recipe, and the recipe beats the default."""
    if option is not None:
        return option
    return default if recipe_value is None else recipe_value


def _recipe_folder(info: ValidationInfo) -> Location | None:
    return info.context["folder"] if info.context else None


def _path_beside_recipe(said: object, info: ValidationInfo) -> Location:
    if isinstance(said, Path | Uri):
        return said
    if not isinstance(said, str):
        raise PydanticCustomError("path_type", "it should be a path")
    folder = _recipe_folder(info)
    return parse_location(said) if folder is None else join(folder, said)


def _prompts_beside_recipe(said: object, info: ValidationInfo) -> Location:
    return Path(said) if isinstance(said, str) and is_prompt_set(said) else _path_beside_recipe(said, info)


def _model_beside_recipe(model: str, info: ValidationInfo) -> str:
    # `Wan-AI/Wan2.1-…` may be a hub id, so only a leading dot says that it is a folder; an absolute path cannot be
    # taken for a hub id again.
    folder = _recipe_folder(info)
    if folder is None or not model.startswith("."):
        return model
    return str((folder.absolute() if isinstance(folder, Path) else folder) / model)


def _known_schemes(name: str) -> str:
    try:
        schemes_named(name)
    except VqError:
        known = ", ".join(SCHEMES)
        raise PydanticCustomError(
            "refused",
            "which is no scheme: give one of {known}, or several joined by {mix}.",
            {"known": known, "mix": MIX},
        ) from None
    return name


RecipePath = Annotated[Location, PlainValidator(_path_beside_recipe)]
PromptsPath = Annotated[Location, PlainValidator(_prompts_beside_recipe)]
Model = Annotated[str, AfterValidator(_model_beside_recipe)]
SchemeName = Annotated[str, AfterValidator(_known_schemes)]
# Strict pydantic takes neither a YAML string for an enum, nor a YAML list for a tuple: those fields are not strict.


class LoraSettings(Section):
    """A LoRA that is merged before anything else; `component` is the transformer it is for, all where none is said."""

    path: RecipePath
    strength: float = 1.0
    component: str | None = None


class SamplingSettings(Section):
    """How videos are sampled: `height` and `width` in pixels (the area, where an image gives the aspect)."""

    prompts: PromptsPath | None = None
    steps: Steps | None = None
    height: Side | None = None
    width: Side | None = None
    num_frames: FrameCount | None = None
    guidance_scale: Guidance | None = None
    guidance_scale_2: Guidance | None = None


class CalibSettings(SamplingSettings):
    """`vq-calib collect`: `tokens` is how many rows of each input are sampled."""

    seed: Seed | None = None
    tokens: TokenCount | None = None


class SmoothSettings(Section):
    """`vq-algos smooth`: `alpha` is SmoothQuant's, `awq_version` AWQ's, `dtype` that of the folded tensors."""

    method: str | None = None
    alpha: Share | None = None
    awq_version: AwqVersion | None = None
    groups: Groups | None = None
    target: str | None = None
    dtype: FoldedDtype | None = None


class QuantizeSettings(Section):
    """`vq-algos quantize`: `keep_size` is text such as `500MB`, `min_snr` in dB."""

    method: str | None = None
    rounding: Annotated[Rounding, Field(strict=False)] | None = None
    rotate: str | None = None
    keep_size: str | None = None
    min_snr: Decibels | None = None


class EvalSettings(SamplingSettings):
    """`vq-eval fake-quant`: `output` is the folder of the videos."""

    fps: FrameRate | None = None
    variants: Annotated[tuple[Variant, ...], Field(strict=False, min_length=1)] | None = None
    output: RecipePath | None = None


class Recipe(Section):
    """The settings of all stages. `output` is the root below which each stage has its folder: see `path_of`.

    `ignored` are the linears that `vq-eval fake-quant` leaves in full precision, and `vq-algos quantize` for a target
    that can.
    """

    model: Model | None = None
    scheme: SchemeName | None = None
    seed: Seed | None = None
    output: RecipePath | None = None
    lora: Annotated[tuple[LoraSettings, ...], Field(strict=False)] = ()
    ignored: Annotated[tuple[IgnoreRule, ...], Field(strict=False)] = ()
    calib: CalibSettings = CalibSettings()
    smooth: SmoothSettings = SmoothSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    eval: EvalSettings = EvalSettings()

    @property
    def calib_seed(self) -> int | None:
        """`calib.seed`, else `seed`."""
        return self.seed if self.calib.seed is None else self.calib.seed

    @property
    def needs_no_statistics(self) -> bool:
        """Does it ask for no smoothing and for rounding to nearest, as LLMC's RTN?"""
        rounder = resolve(None, self.quantize.method, DEFAULTS.quantize_method)
        return self.smooth.method == "none" and rounder == DEFAULTS.quantize_method

    def path_of(self, artifact: Artifact) -> Location | None:
        """Where a stage writes `artifact` and the next one looks for it; None where the recipe names no `output`."""
        if artifact == "videos" and self.eval.output is not None:
            return self.eval.output
        return None if self.output is None else self.output / artifact


def loras_of(said: Sequence[str] | None, recipe: Recipe) -> tuple[LoraRequest, ...]:
    """The LoRAs that `--lora` has `said`, else those of the recipe.

    Raises:
        VqError: what was said names no file, or a strength is 0.
    """
    if said:
        return tuple(map(parse_lora, said))
    return tuple(LoraRequest(lora.path, lora.strength, lora.component) for lora in recipe.lora)


def ignored_of(said: Sequence[str] | None, recipe: Recipe, option: str = "--ignore") -> tuple[IgnoreRule, ...]:
    """The rules that `option` has `said`, else those of the recipe.

    Raises:
        VqError: what was said is no rule.
    """
    return tuple(parse_ignored(rule, option) for rule in said) if said else recipe.ignored


def read_recipe(location: Location | None) -> Recipe:
    """The recipe in the file `location`, ours or LLMC's (told apart by LLMC's keys `base`, `quant`, `save`).

    Without a location, an empty one. Where there is no such file, `location` may be the name of a recipe that comes
    with the package. Paths in our YAML are relative to its folder, also where that is at a URI; those in LLMC's to the
    working directory, as LLMC has it.

    Raises:
        VqError: the file cannot be read, a key is unknown, a value has the wrong type, or LightX2V cannot run it.
    """
    if location is None:
        return Recipe()
    path = local_copy(location)
    if not path.exists():
        path = named_recipe(str(path)) or path
    folder = location.parent if isinstance(location, Uri) else path.parent
    document = load_yaml(path)
    if is_llmc(document):
        return validated(Recipe, from_llmc(document, path), path)
    return validated(Recipe, document, path, folder=folder)
