from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.artifacts.qparams import open_qparams
from vq_core.errors import VqError
from vq_core.recipes.recipe import Recipe
from vq_core.remote.location import NamedPath
from vq_core.testing.tiny_models import Variant
from vq_eval.videos.candidates import artifacts_of, open_named

Artifacts = Callable[[Variant], tuple[Path, Path]]


def test_every_candidate_finds_its_own_weights(artifacts: Artifacts, other_artifacts: tuple[Path, Path]) -> None:
    (weights, qparams), (other_weights, other_qparams) = artifacts("t2v"), other_artifacts
    opened = open_named(
        [weights, other_weights], [NamedPath("b", other_qparams), NamedPath("a", qparams), NamedPath("c", qparams)]
    )
    assert [it.name for it in opened] == ["b", "a", "c"]
    assert [it.weights_id.path for it in opened] == [str(other_weights), str(weights), str(weights)]
    assert opened[1].weights is opened[2].weights
    assert opened[1].qparams_id.digest == open_qparams(qparams).artifact.digest


def test_what_does_not_belong_together_is_refused(artifacts: Artifacts, other_artifacts: tuple[Path, Path]) -> None:
    (weights, qparams), (other_weights, other_qparams) = artifacts("t2v"), other_artifacts
    with pytest.raises(VqError, match="was made from none of the weights given .*: add --weights"):
        open_named([weights], [NamedPath("a", other_qparams)])
    with pytest.raises(VqError, match="Nothing was quantized from"):
        open_named([weights, other_weights], [NamedPath("a", qparams)])
    with pytest.raises(VqError, match="`a` is the name of two candidates"):
        open_named([weights], [NamedPath("a", qparams)] * 2)
    with pytest.raises(VqError, match="`floor` is the name of full precision's floor"):
        open_named([weights], [NamedPath("floor", qparams)])
    with pytest.raises(VqError, match="`--qparams` is missing"):
        open_named([weights], [])


def test_options_beat_the_recipe() -> None:
    recipe = Recipe(output=Path("run"))
    assert artifacts_of(None, None, recipe) == (
        [Path("run/smoothed-weights")],
        [NamedPath("quant-params", Path("run/quant-params"))],
    )
    assert artifacts_of([Path("w")], ["a=q"], recipe) == ([Path("w")], [NamedPath("a", Path("q"))])
    assert artifacts_of(None, None, Recipe()) == ([], [])
