"""Damage that verification cannot see, because every file is what it claims to be: `layers` says where it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import KIND as WEIGHTS_KIND
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.remote.location import NamedPath
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_core.topology import Topology
from vq_eval.layers.figures import places_of, ranking_of
from vq_eval.layers.measure import measure_layers
from vq_eval.layers.schema import MARKDOWN_NAME, Place, Ranking, Suspect
from vq_eval.layers.suspects import find_suspects
from vq_eval.trajectories.measure import measure_trajectories
from vq_eval.videos.candidates import open_named

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]
Change = Callable[[dict[str, Tensor]], None]

SAMPLING = Sampling(steps=1, height=32, width=32, num_frames=5)
MARGIN_DB = 10.0


class Layers(NamedTuple):
    places: tuple[Place, ...]
    ranking: Ranking
    suspects: tuple[Suspect, ...]


class Damage:
    """INT8 of `t2v`, with tensors of its smoothed weights or its quant params changed."""

    def __init__(self, twins: Any, measured: Callable[..., Any], weights: Path, qparams: Path) -> None:
        self._twins, self._measured = twins, measured
        self.weights, self.qparams = weights, qparams

    def layers(self) -> Layers:
        """One call of the model beside the damaged one."""
        twins = self._twins
        twins.weights, twins.qparams = open_weights(self.weights).components["transformer"], open_qparams(self.qparams)
        places = places_of(self._measured(twins, twins.quantized()))
        return Layers(places, ranking_of(places), find_suspects(places, {"transformer": twins.weights.topology}))


@pytest.fixture
def damage(
    twins: Callable[[Variant], Any],
    measured: Callable[..., Any],
    artifacts: Artifacts,
    rewrite: Callable[..., Path],
    tmp_path: Path,
) -> Callable[..., Damage]:
    def damaged(in_weights: Change | None = None, in_qparams: Change | None = None, name: str = "damaged") -> Damage:
        weights, qparams = artifacts("t2v")
        folder = tmp_path / name
        if in_weights is not None:
            weights = rewrite(open_weights(weights).artifact, folder / "smoothed", in_weights)
        parents = {WEIGHTS_KIND: open_weights(weights).artifact.digest}
        changed = rewrite(open_qparams(qparams).artifact, folder / "qparams", in_qparams or _leave, parents)
        return Damage(twins("t2v"), measured, weights, changed)

    return damaged


def _leave(tensors: dict[str, Tensor]) -> None:
    pass


def double(tensors: dict[str, Tensor]) -> None:
    tensors["blocks.2.ffn.net.2.scale"] *= 2


def lose(gain: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[f"blocks.1.{gain}.gain"] = torch.ones_like(tensors[f"blocks.1.{gain}.gain"])

    return change


def swap(tensors: dict[str, Tensor], first: str, second: str) -> None:
    for part in ("codes", "scale"):
        a, b = f"{first}.{part}", f"{second}.{part}"
        tensors[a], tensors[b] = tensors[b], tensors[a]


def worst(report: Layers) -> list[tuple[str, float]]:
    """Own SNR of every linear, the lowest first."""
    linears = [(it.name, it.own.snr_db) for it in report.places if it.kind == "linear" and it.own is not None]
    return sorted([(name, db) for name, db in linears if db is not None], key=lambda it: it[1])


def assert_named(report: Layers, damaged: set[str]) -> None:
    """Exactly the `damaged` linears are the worst, by a margin, and the suspects."""
    order = worst(report)
    assert {name for name, _ in order[: len(damaged)]} == damaged
    assert order[len(damaged)][1] > order[len(damaged) - 1][1] + MARGIN_DB
    assert {name for suspect in report.suspects for name in suspect.linears} == damaged
    assert {name.removeprefix("transformer.") for name in report.ranking.linears[: len(damaged)]} == damaged
    said = " ".join(suspect.sentence for suspect in report.suspects)
    assert all(name in said for name in damaged)


@pytest.mark.parametrize(
    "pair", [("blocks.0.attn2.to_q", "blocks.2.attn2.to_q"), ("blocks.1.attn1.to_q", "blocks.1.attn1.to_v")]
)
def test_two_linears_swapped(damage: Callable[..., Damage], pair: tuple[str, str]) -> None:
    report = damage(in_qparams=lambda tensors: swap(tensors, *pair)).layers()
    assert_named(report, set(pair))
    assert [suspect.kind for suspect in report.suspects] == ["linear", "linear"]


@pytest.mark.parametrize("gain", ["norm1", "norm3"])
def test_one_gain_lost(damage: Callable[..., Damage], topology: Topology, gain: str) -> None:
    report = damage(in_weights=lose(gain)).layers()
    readers = {name for group in topology.groups if group.gain == f"blocks.1.{gain}.gain" for name in group.reads}
    assert_named(report, readers)
    (suspect,) = report.suspects
    assert suspect.kind == ("group" if gain == "norm1" else "linear")


def test_one_scale_doubled(damage: Callable[..., Damage]) -> None:
    report = damage(in_qparams=double).layers()
    assert_named(report, {"blocks.2.ffn.net.2"})
    assert report.suspects[0].snr_db == pytest.approx(0, abs=1)  # an error as large as the output, but for its bias


@pytest.mark.parametrize(
    ("stem", "suspect"),
    [
        ("blocks.1.norm2", ("group", "blocks.1.attn2.q")),
        ("condition_embedder.text_embedder.linear_2", ("condition", "text")),
    ],
)
def test_one_fold_lost(
    damage: Callable[..., Damage], tiny_model: TinyModel, stem: str, suspect: tuple[str, str]
) -> None:
    """No linear is wrong on its own; its input is."""
    names = [f"{stem}.weight", f"{stem}.bias"]
    original = open_source(str(tiny_model("t2v"))).components["transformer"].plain(names)

    def undo(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: it.to(tensors[name].dtype) for name, it in original.items()})

    (found,) = damage(in_weights=undo).layers().suspects
    assert (found.kind, found.name) == suspect


def test_the_undamaged_model_has_no_suspects(damage: Callable[..., Damage]) -> None:
    report = damage().layers()
    assert report.suspects == ()
    assert worst(report)[0][1] > 25


def test_a_whole_run_says_the_same(
    damage: Callable[..., Damage], tiny_model: TinyModel, one_prompt: Path, tmp_path: Path
) -> None:
    work = damage(in_qparams=double)
    (candidate,) = open_named([work.weights], [NamedPath("doubled", work.qparams)])
    model, output = str(tiny_model("t2v")), tmp_path / "layers"
    report = measure_layers(model, candidate, one_prompt, SAMPLING, output, device="cpu")
    assert_named(Layers(report.places, report.ranking, report.suspects), {"blocks.2.ffn.net.2"})
    assert report.suspects[0].sentence in (output / MARKDOWN_NAME).read_text()


def test_each_damage_shows_in_the_trajectory(
    damage: Callable[..., Damage], artifacts: Artifacts, tiny_model: TinyModel, one_prompt: Path, tmp_path: Path
) -> None:
    pair = "blocks.1.attn1.to_q", "blocks.1.attn1.to_v"
    works = {
        "doubled": damage(in_qparams=double, name="doubled"),
        "swapped": damage(in_qparams=lambda tensors: swap(tensors, *pair), name="swapped"),
        "lost": damage(in_weights=lose("norm1"), name="lost"),
    }
    weights, qparams = artifacts("t2v")
    named = [NamedPath("healthy", qparams), *(NamedPath(name, work.qparams) for name, work in works.items())]
    candidates = open_named([weights, works["lost"].weights], named)
    model, output = str(tiny_model("t2v")), tmp_path / "drift"
    report = measure_trajectories(model, candidates, one_prompt, SAMPLING, output, floor=False, device="cpu")
    errors = {it.name: it.summary.final_error for it in report.candidates}
    healthy = errors.pop("healthy")
    assert min(errors.values()) > 1.5 * healthy, (healthy, errors)
