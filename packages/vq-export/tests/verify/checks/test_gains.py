"""The gains of a smoothed checkpoint are recovered from it and the model, whatever rounding did to weight or bias."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.model.source import open_source
from vq_export.model.derived import Derived
from vq_export.targets.lightx2v import export
from vq_export.verify.checks.fidelity import compare, gain_finder
from vq_export.verify.checks.gains import NON_BLOCK, GainFinder
from vq_export.verify.checks.linear_error import LinearError
from vq_export.verify.reference import model_reference, unrounded_reference

Paths = dict[str, Path]


def linears_of(path: Path, model: Path) -> dict[str, LinearError]:
    checkpoint = open_checkpoint(path)
    return compare(checkpoint, model_reference(open_source(str(model)), checkpoint))["transformer"].linears


def finder_of(path: Path, model: Path) -> GainFinder:
    checkpoint = open_checkpoint(path)
    reference = model_reference(open_source(str(model)), checkpoint)
    return gain_finder(checkpoint, "transformer", reference, "cpu")


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["smoothed_i2v", "smoothed_across"])
def test_every_gain_is_found(
    checkpoints: Paths, models: Paths, request: pytest.FixtureRequest, scheme: str, made: str
) -> None:
    kind = "across" if made == "smoothed_across" else "smoothed"
    finder = finder_of(checkpoints[f"{scheme}-{kind}"], models["i2v"])
    shared = finder.gains(NON_BLOCK, {})
    found = shared | finder.gains("block_0", shared) | finder.gains("block_1", shared)
    expected = request.getfixturevalue(made)[scheme].gains["transformer"]
    assert {group.name for group in found} == expected.keys()
    differing = {group.name for group, gain in found.items() if not torch.equal(gain, expected[group.name])}
    # A bias in bfloat16 leaves neighbours to choose from, and rows of 64 codes do not always tell them apart.
    assert differing <= {f"blocks.{block}.{name}" for block in (0, 1) for name in ("attn1.out", "attn2.out")}
    for group, gain in found.items():
        assert ((gain / expected[group.name] - 1).abs() <= 2**-7).all()


def test_smoothed_weights_leave_nothing_to_find(checkpoints: Paths, smoothed_i2v: dict[str, Any]) -> None:
    reference = unrounded_reference(smoothed_i2v["int8"].opened())
    finder = gain_finder(open_checkpoint(checkpoints["int8-smoothed"]), "transformer", reference, "cpu")
    assert finder.gains(NON_BLOCK, {}) == {}
    assert finder.gains("block_0", {}) == {}


def test_rows_behind_gelu_are_found_where_they_may_have_been_rescaled(models: Paths, checkpoints: Paths) -> None:
    model = models["t2v"]
    finder = finder_of(checkpoints["int8-t2v"], model)
    names = ("blocks.0.ffn.net.0.proj.weight", "blocks.0.ffn.net.0.proj.bias")

    class Quadrupled(Derived):
        """The model in whose rows 3 the checkpoint would have been divided by four."""

        def plain(self, names_asked: Any, device: str = "cpu") -> dict[str, Tensor]:
            tensors = super().plain(names_asked, device)
            for name in tensors.keys() & set(names):
                tensors[name] = tensors[name].clone()
                tensors[name][3] *= 4
            return tensors

        def linear(self, name: str, device: str = "cpu") -> Tensor:
            return self.plain([f"{name}.weight"], device)[f"{name}.weight"]

    rescaled = replace(finder, rescaled=True, original=Quadrupled(open_source(str(model)).components["transformer"]))
    (gain,) = (gain for group, gain in rescaled.gains("block_0", {}).items() if group.name == "blocks.0.ffn.down")
    assert gain[3] == 0.25
    assert (gain == 1).sum() == len(gain) - 1
    assert not any(group.name == "blocks.0.ffn.down" for group in finder.gains("block_0", {}))


def zero_biases(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor.zero_()


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_gains_are_recovered_from_weights_where_biases_are_zero(
    make_model: Callable[..., Path], make_artifacts: Callable[..., Any], tmp_path: Path, scheme: str
) -> None:
    model = make_model("i2v", edit=zero_biases)
    export(make_artifacts(model, scheme).opened(), tmp_path / "ckpt")
    errors = linears_of(tmp_path / "ckpt", model)
    assert len(errors) == 24
    assert max(error.excess_db for error in errors.values()) < 6
    assert min(error.snr_db for error in errors.values()) > 28


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("clip", [1.0, 0.7])
@pytest.mark.parametrize("value", ["blocks.0.attn1.to_v", "blocks.1.attn2.to_v", "blocks.1.attn2.add_v_proj"])
def test_gains_are_recovered_from_weights_where_a_bias_was_corrected(
    models: Paths, make_artifacts: Any, tmp_path: Path, scheme: str, value: str, clip: float
) -> None:
    export(make_artifacts(models["i2v"], scheme, corrected=value, clip=clip).opened(), tmp_path / "ckpt")
    errors = linears_of(tmp_path / "ckpt", models["i2v"])
    assert max(error.excess_db for error in errors.values()) < 6
