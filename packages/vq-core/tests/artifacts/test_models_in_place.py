"""A model of LLMC, or in LightX2V's layout, where an artifact is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.models_in_place import models_told
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.families.wan import to_native, topology

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, t2v_config: Any, random_tensors: Any, write_transformer: Write) -> Write:
    """`write(folder, codes, gains, native)`: what `save_lightx2v`, `save_trans` or LightX2V's converter write."""

    def make(folder: str, *, codes: bool = False, gains: bool = False, native: bool = False) -> Path:
        made, tensors = topology(t2v_config), random_tensors(t2v_config)
        for linear in made.linears if codes else ():
            tensors[f"{linear.name}.weight"] = torch.ones(linear.out_features, linear.in_features, dtype=torch.int8)
            tensors[f"{linear.name}.weight_scale"] = torch.ones(linear.out_features, 1)
        if native:
            tensors = {to_native(name): tensor for name, tensor in tensors.items()}
        for gain, length in made.gains.items() if gains else ():
            for part in ("weight", "bias"):
                tensors[gain.replace("norm", "affine_norm").replace("gain", part)] = torch.ones(length)
        return write_transformer(tmp_path / folder, t2v_config, tensors)

    return make


@pytest.mark.parametrize("opened", [open_checkpoint, open_weights, open_qparams, open_stats])
@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            {"codes": True, "gains": True},
            "by LLMC's save_lightx2v, not converted yet: run `vq-export lightx2v --model {} -o checkpoint`",
        ),
        (
            {"codes": True, "native": True},
            "is quantized in LightX2V's layout, not converted yet: run `vq-export lightx2v",
        ),
        ({"gains": True}, "LLMC has smoothed, not converted yet: run `vq-export lightx2v --model {} --scheme int8"),
        ({}, "is not a "),
    ],
    ids=["save_lightx2v", "LightX2V", "save_trans", "plain"],
)
def test_the_command_that_converts_it_is_named(
    write: Write, opened: Callable[[Path], object], made: dict[str, bool], sentence: str
) -> None:
    folder = write("model", **made)
    with pytest.raises(VqError) as refused:
        opened(folder)
    assert sentence.format(folder) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "made"), [("lightx2v_quant_model", {"codes": True}), ("transformed_model", {"gains": True})]
)
def test_the_folder_around_it_is_enough(write: Write, name: str, made: dict[str, bool]) -> None:
    folder = write(f"saved/{name}", **made)
    with pytest.raises(VqError, match=f"--model {folder}"):
        open_checkpoint(folder.parent)


def test_any_other_error_stays(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(VqError, match="^as it was$"), models_told(place):
            raise VqError("as it was")
