"""Linears of different schemes in one checkpoint: written, read back, compared; broken, and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.comfyui_checkpoint import layer_of, marker_of
from vq_core.artifacts.converted import open_converted
from vq_core.errors import VqError
from vq_core.numerics.scheme import INT8, schemes_named
from vq_export.gate import export
from vq_export.targets import target_named
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify

Paths = dict[str, Path]
Made = tuple[Any, Path]


@pytest.fixture(scope="module", params=["native int8+fp8", "native w4a8+int8", "comfyui w4a8+int8"])
def made(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Made]) -> Made:
    return make_checkpoint(*request.param.split(), rotation=16, center=True)


def test_every_linear_comes_back_in_its_own_scheme(made: Made) -> None:
    artifacts, path = made
    model, checkpoint = artifacts.opened(), open_converted(path)
    ours, theirs = model.components["transformer"], checkpoint.components["transformer"]
    assert set(checkpoint.schemes) == set(schemes_named(model.scheme))
    for linear in ours.topology.linears:
        scheme = ours.scheme_of(linear.name)
        assert theirs.scheme_of(linear.name) is scheme
        expected, found = ours.linear(linear.name), theirs.linear(linear.name)
        assert found.format is scheme.weight
        assert torch.equal(found.codes.float(), expected.codes.float())
        assert torch.equal(found.scale, expected.scale)
        assert (found.groups is not None) is scheme.grouped


@pytest.mark.parametrize("of_model", [False, True])
def test_it_is_that_of_the_smoothed_weights_and_of_the_model(
    made: Made, verified: Callable[..., Verification], of_model: bool
) -> None:
    artifacts, path = made
    found = verified(path, None if of_model else artifacts)
    assert found.problems == []
    assert all(abs(error.excess_db) < 1.5 for error in found.blocks["transformer"].branches.values())


def test_the_summary_counts_them(made: Made) -> None:
    model = made[0].opened()
    told = target_named("native").notes(model)["schemes"].split(", ")
    assert {part.partition(" ")[0] for part in told} == set(model.scheme.split("+"))
    assert sum(int(part.rpartition(" ")[2]) for part in told) == 24


def test_the_marker_of_another_scheme_is_named(made: Made, rewrite: Callable[..., Path]) -> None:
    artifacts, path = made
    ours = artifacts.opened().components["transformer"]
    other = next(
        it.name for it in ours.topology.linears if it.name.endswith("to_q") and ours.scheme_of(it.name) != INT8
    )
    mark = f"{artifacts.opened().family.to_native(f'{other}.weight').removesuffix('.weight')}.comfy_quant"
    wrong = rewrite(path, lambda content: content.find(mark).update({mark: marker_of(layer_of(INT8, 16))}))
    problems = verify(open_converted(wrong)).problems
    assert any(
        f"`{mark}` says 'int8_tensorwise' and the codes are {ours.scheme_of(other).name}" in it for it in problems
    )


def test_targets_refuse_what_they_cannot_hold(
    make_artifacts: Callable[..., Any], models: Paths, tmp_path: Path
) -> None:
    model = make_artifacts(models["i2v"], "int8+fp8", octaves=0.0).opened()
    with pytest.raises(VqError, match=r"^LightX2V does not run int8\+fp8: take int8, or .*--target native`"):
        export("lightx2v", model, tmp_path / "lightx2v")
    with pytest.raises(VqError, match="^ComfyUI reads one FP8 scale per tensor, and these codes have one per channel"):
        export("comfyui", model, tmp_path / "comfyui")
