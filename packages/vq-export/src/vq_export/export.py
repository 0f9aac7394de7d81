"""Opens the quantized model that the options of an export name, and sums up what was written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.cli.app import required
from vq_core.errors import VqError
from vq_core.files.folder_content import size_of
from vq_core.model.source import TRANSFORMER_FILES, open_source, resolve_model
from vq_core.numerics.scheme import ROUNDING_NOTE, Rounding, plain_scheme_named
from vq_core.recipes.ignored import ignored_linears
from vq_core.recipes.recipe import DEFAULTS, Recipe, loras_of, resolve
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.sampling.guidance import is_guided
from vq_core.sampling.model_defaults import sampled_as
from vq_export.model.quantized_model import QuantizedModel, from_artifacts, from_source
from vq_export.model.quantized_source import open_quantized_source
from vq_export.options import ExportOptions
from vq_export.verify.verification import Verification

SAMPLING_KEYS = {"steps", "height", "width", "num_frames", "guidance_scale", "guidance_scale_2", "fps"}
DIFFUSERS_SHIFTS = (3.0, 5.0)
"""In the schedulers of Wan's own pipelines for diffusers, at 480p and 720p."""


def open_model(options: ExportOptions, recipe: Recipe, *, device: str = "cpu") -> QuantizedModel:
    """Open what `options` and `recipe` name; `device` is for conversion.

    A recipe's model is not converted: the artifacts that lie at the recipe's output are opened. Only a model among the
    options is converted. The settings say how the model is sampled: the recipe's `eval`, else the model's defaults.

    Raises:
        VqError: artifacts and a model are mixed, something is missing, a name is unknown, or linears are ignored.
    """
    if options.model is None:
        model = _open_artifacts(options, recipe)
    else:
        model = _convert(options.model, options, recipe, device)
    _refuse_ignored(model, recipe)
    smoothing = model.settings.get("smooth")
    known = (isinstance(smoothing, dict) and smoothing.get("sampling")) or model.settings.get("sampling")
    said = recipe.eval.model_dump(include=SAMPLING_KEYS, exclude_none=True)
    sampling = _with_said(known if isinstance(known, dict) else {}, said)
    return replace(model, settings={**model.settings, "sampling": sampling}) if sampling else model


def _with_said(known: Mapping[str, JsonValue], said: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What is `known` of the model's sampling, with what a recipe has `said` in its place.

    If only the recipe says that there is no guidance, the model's files are those of the model that was distilled, and
    the shift that diffusers gives to every Wan says nothing about what came of it.
    """
    sampling = {**known, **said}
    distilled = "guidance_scale" in said and not is_guided(cast(float, said["guidance_scale"]))
    known_scale = known.get("guidance_scale")
    own = isinstance(known_scale, int | float) and not is_guided(known_scale)
    if distilled and not own and known.get("flow_shift") in DIFFUSERS_SHIFTS:
        del sampling["flow_shift"]
    return sampling


def _convert(name: str, options: ExportOptions, recipe: Recipe, device: str) -> QuantizedModel:
    if options.weights or options.qparams:
        raise VqError("`--model` is converted without --weights and --qparams: give one or the other.")
    if quantized := open_quantized_source(name, loras=options.lora or (), allow_pth=options.allow_pth):
        if options.rounding is not None:
            raise VqError(f"{quantized.model} is rounded already: leave --rounding out.")
        quantized = _of_scheme(quantized, options, recipe, quantized.model, "give the model it was made from")
        return _sampled_as(quantized, resolve_model(name, only=TRANSFORMER_FILES))
    scheme = plain_scheme_named(required(options.scheme or recipe.scheme, "--scheme"))
    rounding = resolve(options.rounding, recipe.quantize.rounding, DEFAULTS.rounding)
    if rounding not in list(Rounding):
        raise VqError(f"`{rounding}` is not a rounding: choose one of {', '.join(Rounding)}.")
    source = open_source(name, loras_of(options.lora, recipe), allow_pth=options.allow_pth)
    return _sampled_as(from_source(source, scheme, Rounding(rounding), device=device), source.path)


def _sampled_as(model: QuantizedModel, path: Path) -> QuantizedModel:
    """`model` with what the files in `path` say of how it is sampled."""
    said = sampled_as(path)
    return replace(model, settings={**model.settings, "sampling": said}) if said else model


def _of_scheme(
    model: QuantizedModel, options: ExportOptions, recipe: Recipe, where: object, advice: str
) -> QuantizedModel:
    """`model`, which lies in `where` in 8 bits; refuses another scheme than its own."""
    scheme = options.scheme or recipe.scheme
    if scheme not in (None, model.scheme):
        raise VqError(f"{where} is {model.scheme}, and {scheme} is asked for: {advice}.")
    return model


def _open_artifacts(options: ExportOptions, recipe: Recipe) -> QuantizedModel:
    weights = options.weights or recipe.path_of("smoothed-weights")
    qparams = options.qparams or recipe.path_of("quant-params")
    if weights is None or qparams is None:
        raise VqError("Nothing to export: give --weights and --qparams, or --model and --scheme.")
    if options.rounding is not None:
        raise VqError("`--rounding` goes with --model: quant params are rounded already.")
    if options.lora:
        raise VqError("`--lora` goes with --model: smoothed weights have their LoRAs merged already.")
    model = from_artifacts(open_weights(weights), open_qparams(qparams))
    return _of_scheme(model, options, recipe, qparams, "quantize to that scheme, or leave --scheme out")


def _refuse_ignored(model: QuantizedModel, recipe: Recipe) -> None:
    for name, component in model.components.items():
        kept = {linear.name for linear in component.topology.kept}
        if quantized := [it for it in ignored_linears(recipe.ignored, component.topology) if it not in kept]:
            more = f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""
            raise VqError(
                f"The recipe ignores {quantized[0]}{more} of {name}, and here they are quantized: smooth and quantize "
                "with it for native or comfyui, remove `ignored` (LLMC's `ignored_layers`) to export, or make videos "
                "with vq-eval."
            )


@dataclass(frozen=True)
class Written:
    """Summary of an exported checkpoint; `size` in bytes, `rounding` None for codes of another tool."""

    output: Location
    scheme: str
    smoothed: bool
    components: tuple[str, ...]
    size: int
    rounding: str | None = None

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        return {
            "scheme": self.scheme,
            "smoothed": "yes (quant_method advanced_ptq)" if self.smoothed else "no",
            "components": ", ".join(self.components),
            "size": f"{self.size / 1e9:.3g} GB",
            **({"rounding": f"qtorch: {ROUNDING_NOTE}"} if self.rounding == Rounding.QTORCH else {}),
        }


def written(model: QuantizedModel, output: Location) -> Written:
    """Sums up the checkpoint of `model` in the folder `output`."""
    how = cast(dict[str, str], model.settings["quantize"])
    names, size = tuple(model.components), size_of(local_copy(output))
    return Written(output, model.scheme, model.has_gains, names, size, how.get("rounding"))


def verified_row(found: Verification | None) -> dict[str, str]:
    """One line: what verification found; None where none was asked for."""
    if found is None:
        return {"verified": "no: --no-verify"}
    warnings = f", {len(found.warnings)} warnings, the first: {found.warnings[0]}" if found.warnings else ""
    snrs = [snr for linears in found.weight_snr_db.values() for snr in linears.values()]
    return {"verified": f"{found.tensors} tensors; weight SNR {min(snrs):.1f} dB and more{warnings}"}
