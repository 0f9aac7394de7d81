"""Centering of what all blocks read, the embedded text and image: one decision for every block, and for good."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.families.wan import topology

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeSmoothed = Callable[..., Path]
MakeOffsetStats = Callable[..., ActivationStats]

PRODUCERS = {
    "text": "condition_embedder.text_embedder.linear_2.bias",
    "image": "condition_embedder.image_embedder.norm2.bias",
}
ROTATE = ("none", "all", "auto")


@pytest.fixture
def make_weights(make_smoothed: MakeSmoothed) -> Callable[[Path], Path]:
    """Smoothed weights of a model, for a target that rotates."""
    return lambda model: make_smoothed(model, SmoothSettings(target="native"))


def _quantize(weights: Path, output: Path, stats: ActivationStats, **settings: Any) -> QuantParams:
    resume = settings.pop("resume", False)
    asked = QuantizeSettings(**({"scheme": "int8", "center": True} | settings))
    quantize(open_weights(weights), asked, output, stats=stats, resume=resume)
    return open_qparams(output)


def _centered(qparams: QuantParams, component: str = "transformer") -> set[str]:
    """Those that were centered: all their readers say so, and what produces them lies outside the blocks."""
    described, decisions = qparams.artifact.manifest.components[component], qparams.decisions(component)
    found = set()
    for group in (group for group in topology(described.config).groups if group.name in PRODUCERS):
        (centered,) = {decisions[linear].get("centered", False) for linear in group.reads}
        for name in (PRODUCERS[group.name], f"{group.name}.mean"):
            assert (name in described.tensors) == centered
            assert not centered or described.tensors[name].file == f"{component}/non_block.safetensors"
        found |= {group.name} if centered else set()
    return found


@pytest.mark.parametrize("rotate", ROTATE)
def test_it_is_subtracted_in_every_block(
    make_weights: Callable[[Path], Path], i2v_model: Path, offset_stats: ActivationStats, tmp_path: Path, rotate: str
) -> None:
    assert _centered(_quantize(make_weights(i2v_model), tmp_path / "out", offset_stats, rotate=rotate)) == {*PRODUCERS}


@pytest.mark.parametrize("rotate", ROTATE)
@pytest.mark.parametrize(("lost", "linear"), [("text", "attn2.to_v"), ("image", "attn2.add_k_proj")])
def test_one_linear_that_does_not_gain_decides_for_every_block(
    make_model: MakeModel,
    make_weights: Callable[[Path], Path],
    make_offset_stats: MakeOffsetStats,
    i2v_config: Config,
    tmp_path: Path,
    lost: str,
    linear: str,
    rotate: str,
) -> None:
    """A linear of zeros has no error to lose."""
    model = make_model(i2v_config, edit={f"blocks.1.{linear}.weight": torch.zeros(32, 32, dtype=torch.bfloat16)})
    qparams = _quantize(make_weights(model), tmp_path / "out", make_offset_stats(model), rotate=rotate)
    assert _centered(qparams) == PRODUCERS.keys() - {lost}


@pytest.mark.parametrize("rotate", ROTATE)
def test_blocks_follow_the_decision_whatever_they_would_decide(
    make_weights: Callable[[Path], Path],
    i2v_model: Path,
    stats: ActivationStats,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rotate: str,
) -> None:
    weights = make_weights(i2v_model)
    assert _centered(_quantize(weights, tmp_path / "asked", stats, rotate=rotate)) != {*PRODUCERS}
    monkeypatch.setattr("vq_algos.rounding.quantize.is_better_centered", lambda *_: True)
    assert _centered(_quantize(weights, tmp_path / "told", stats, rotate=rotate)) == {*PRODUCERS}


def test_every_transformer_decides_for_itself(
    make_model: MakeModel,
    make_weights: Callable[[Path], Path],
    make_offset_stats: MakeOffsetStats,
    t2v_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    zeros = torch.zeros(32, 32, dtype=torch.bfloat16)
    model = make_model(t2v_config, t2v_config, edit={"blocks.0.attn2.to_k.weight": zeros})
    weights, stats = make_weights(model), make_offset_stats(model)
    capsys.readouterr()
    qparams = _quantize(weights, tmp_path / "out", stats)
    assert _centered(qparams, "transformer") == set()
    assert _centered(qparams, "transformer_2") == {"text"}
    told = [line.partition(" blocks")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["center: 2/2", "center: 2/2", "quantize: 4/4"]


def test_without_centering_there_is_nothing_outside_the_blocks(
    make_weights: Callable[[Path], Path], i2v_model: Path, offset_stats: ActivationStats, tmp_path: Path
) -> None:
    qparams = _quantize(make_weights(i2v_model), tmp_path / "out", offset_stats, center=False)
    blocks = {f"transformer/block_{block}.{end}" for block in range(2) for end in ("json", "safetensors")}
    assert qparams.artifact.manifest.files.keys() == blocks


@pytest.mark.parametrize(
    "killed_at", ["shared_means.center_shared", "quantize.read_means", "quantize.correct_and_score"]
)
def test_a_run_that_is_resumed_decides_as_one_that_never_stopped(
    make_weights: Callable[[Path], Path],
    i2v_model: Path,
    offset_stats: ActivationStats,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: str,
) -> None:
    """And does not ask the blocks again, of which a rounding error on another machine might change the mind of one."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    weights = make_weights(i2v_model)
    whole = _quantize(weights, tmp_path / "whole", offset_stats, method="auto", rotate="auto")
    arguments = (weights, tmp_path / "resumed", offset_stats)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(f"vq_algos.rounding.{killed_at}", killed)
        _quantize(*arguments, method="auto", rotate="auto")
    if killed_at != "shared_means.center_shared":
        monkeypatch.setattr("vq_algos.rounding.shared_means.center_shared", killed)
    resumed = _quantize(*arguments, method="auto", rotate="auto", resume=True)
    assert _centered(resumed) == {*PRODUCERS}
    assert resumed.artifact.manifest == whole.artifact.manifest
