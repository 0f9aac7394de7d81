"""Every key of LLMC's schema has a fate: honoured, without effect and said so, or refused."""

from collections.abc import Iterator
from typing import get_args

from pydantic import AfterValidator

from vq_core.recipes.llmc_schema import LlmcRecipe
from vq_core.recipes.typed_yaml import Section, Unheeded

# The keys whose value becomes a setting of the recipe; `special.trans_version` does too, and is checked besides.
HONOURED = {
    "base.seed",
    "model.path",
    "model.diffusers_path",
    "model.lora_path",
    "calib.path",
    "calib.seed",
    "calib.target_height",
    "calib.target_width",
    "calib.num_frames",
    "calib.guidance_scale",
    "calib.guidance_scale_2",
    "eval.path",
    "eval.target_height",
    "eval.target_width",
    "eval.num_frames",
    "eval.guidance_scale",
    "eval.guidance_scale_2",
    "eval.eval_pos",
    "eval.fps",
    "eval.output_video_path",
    "quant.video_gen.weight.use_qtorch",
    "quant.video_gen.special.alpha",
    "quant.video_gen.special.trans",
    "quant.video_gen.special.weight_clip",
    "ignored_layers.block_ids",
    "ignored_layers.layer_names",
    "ignored_layers.special_names",
    "save.save_path",
}


def keys(section: type[Section], prefix: str = "") -> Iterator[tuple[str, list[object]]]:
    """(dotted name, markers) of every key that is no section itself."""
    for name, field in section.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if _is_section(kind)]
        if inner:
            yield from keys(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", [mark for mark in field.metadata if isinstance(mark, Unheeded | AfterValidator)]


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def test_every_key_is_honoured_or_marked() -> None:
    assert {name for name, markers in keys(LlmcRecipe) if not markers} == HONOURED


def test_no_key_is_marked_twice() -> None:
    assert [name for name, markers in keys(LlmcRecipe) if len(markers) > 1] == []


def test_a_default_is_neither_refused_nor_warned_about() -> None:
    # Writing a default out must change nothing.
    for name, fields in _sections(LlmcRecipe):
        for key, field in fields.model_fields.items():
            for marker in field.metadata:
                if isinstance(marker, Unheeded) and not field.is_required():
                    assert field.default in marker.silent, f"{name}{key}"
                if isinstance(marker, AfterValidator) and not field.is_required():
                    assert marker.func(field.default) == field.default, f"{name}{key}"


def _sections(section: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    yield prefix, section
    for name, field in section.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if _is_section(kind):
                yield from _sections(kind, f"{prefix}{name}.")
