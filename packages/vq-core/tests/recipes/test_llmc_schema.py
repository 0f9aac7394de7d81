"""Every key of LLMC's schema has a fate: honoured, without effect and said so, or refused."""

from collections.abc import Iterator
from typing import get_args

from pydantic import AfterValidator
from pydantic.fields import FieldInfo

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
    "quant.video_gen.act.bit",  # has to be that of weight
    "quant.video_gen.special.alpha",
    "quant.video_gen.special.trans",
    "quant.video_gen.special.weight_clip",
    "ignored_layers.block_ids",
    "ignored_layers.layer_names",
    "ignored_layers.special_names",
    "save.save_path",
}


def sections(section: type[Section], prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """(prefix of its keys, section) of a section and of all inside it."""
    yield prefix, section
    for name, field in section.model_fields.items():
        for inner in sections_in(field):
            yield from sections(inner, f"{prefix}{name}.")


def sections_in(field: FieldInfo) -> list[type[Section]]:
    kinds = (field.annotation, *get_args(field.annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]


# Every key that is no section itself, and its markers.
MARKERS = {
    f"{prefix}{name}": (field, [mark for mark in field.metadata if isinstance(mark, Unheeded | AfterValidator)])
    for prefix, section in sections(LlmcRecipe)
    for name, field in section.model_fields.items()
    if not sections_in(field)
}


def test_every_key_is_honoured_or_marked_once() -> None:
    assert {name for name, (_, markers) in MARKERS.items() if not markers} == HONOURED
    assert [name for name, (_, markers) in MARKERS.items() if len(markers) > 1] == []


def test_a_default_is_neither_refused_nor_warned_about() -> None:
    # Writing a default out must change nothing.
    for name, (field, markers) in MARKERS.items():
        for marker in markers if not field.is_required() else []:
            if isinstance(marker, Unheeded):
                assert field.default in marker.silent, name
            else:
                assert marker.func(field.default) == field.default, name
