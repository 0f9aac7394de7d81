"""Tensors have diffusers' names whichever way they are stored."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.families.wan import to_native, topology
from vq_core.files.tensor_folder import gather_tensors
from vq_core.model.tensor_naming import NamedTensors, load_stored, name_tensors


@pytest.fixture
def names(i2v_config: dict[str, Any]) -> list[str]:
    """Diffusers' names of the fullest layout."""
    return list(topology(i2v_config | {"pos_embed_seq_len": 10}).tensors)


@pytest.fixture
def spelt(tmp_path: Path) -> Any:
    """Spell a file with tensors of these names, each of which holds its position."""

    def of(names: Iterable[str]) -> NamedTensors:
        path = tmp_path / "x.safetensors"
        save_file({name: torch.tensor([position]) for position, name in enumerate(names)}, path)
        return name_tensors(gather_tensors([path]), path)

    return of


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("native", [False, True])
def test_every_spelling_comes_out_as_diffusers(spelt: Any, names: list[str], native: bool, prefix: str) -> None:
    stored = [prefix + (to_native(name) if native else name) for name in names]
    found = spelt(stored)
    assert (found.family_name, found.native) == ("wan", native)
    assert found.tensors.keys() == set(names)
    loaded = load_stored(found.tensors)
    assert [int(loaded[name]) for name in names] == list(range(len(names)))


def test_other_parts_of_a_pipeline_in_the_same_file_are_left_out(spelt: Any, names: list[str]) -> None:
    others = ["vae.encoder.conv1.weight", "text_encoders.umt5xxl.x", "first_stage_model.x", "cond_stage_model.x"]
    stored = [f"model.diffusion_model.{to_native(name)}" for name in names]
    assert spelt([*stored, *others]).tensors.keys() == set(names)


def test_refuses_a_prefix_on_a_part_of_the_tensors(spelt: Any, names: list[str]) -> None:
    stored = [f"model.diffusion_model.{to_native(name)}" for name in names]
    stored[3] = to_native(names[3])
    with pytest.raises(VqError, match=r"with the prefix `model.diffusion_model.` and others, such as `text_embedding"):
        spelt(stored)


def test_gains_scales_and_what_is_unknown_keep_their_place(spelt: Any, names: list[str]) -> None:
    extra = ["blocks.0.affine_norm1.weight", "blocks.0.self_attn.q.weight_scale", "unknown"]
    found = spelt([*map(to_native, names), *extra])
    assert found.tensors.keys() - set(names) == {
        "blocks.0.affine_norm1.weight",
        "blocks.0.attn1.to_q.weight_scale",
        "unknown",
    }


def test_refuses_half_diffusers_and_half_native(spelt: Any, names: list[str]) -> None:
    half = len(names) // 2
    with pytest.raises(
        VqError, match=r"is half in diffusers' names \(`\S+`, \d+ tensors\) and half in native ones \(`"
    ):
        spelt([*names[:half], *map(to_native, names[half:])])


def test_refuses_another_network(spelt: Any) -> None:
    with pytest.raises(VqError, match=r"is no transformer of a family that is known here \(wan\).*`double_blocks.0.x`"):
        spelt(["double_blocks.0.x", "double_blocks.1.x"])
