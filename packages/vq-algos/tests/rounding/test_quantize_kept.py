"""Linears that stay in full precision, chosen when a model is quantized."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_algos.rounding.keep import kept_linears, shared_inputs
from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError

MakeSmoothed = Callable[..., Path]


@pytest.fixture
def smoothed(make_smoothed: MakeSmoothed, i2v_model: Path) -> Path:
    return make_smoothed(i2v_model, SmoothSettings(target="native"))


def _quantize(weights: Path, output: Path, stats: Any, **settings: Any) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings("int8", **settings), output, stats=stats)
    return open_qparams(output)


@pytest.mark.parametrize("asked", [{"keep_size": 6000}, {"min_snr": 38.0}, {"keep_size": 6000, "min_snr": 38.0}])
def test_the_artifact_names_what_is_kept(smoothed: Path, stats: Any, tmp_path: Path, asked: dict[str, Any]) -> None:
    without = _quantize(smoothed, tmp_path / "without", stats).decisions("transformer")
    topology = open_weights(smoothed).components["transformer"].topology
    inputs = shared_inputs("transformer", topology, without, "int8")
    expected = kept_linears(inputs, size=asked.get("keep_size"), min_snr_db=asked.get("min_snr"))["transformer"]
    found = _quantize(smoothed, tmp_path / "kept", stats, **asked)
    assert found.kept("transformer") == set(expected)
    assert 0 < len(expected) < len(without)
    assert {name for name, how in found.decisions("transformer").items() if "kept" in how} == set(expected)


def test_what_is_named_is_kept_with_what_reads_the_same_input(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    found = _quantize(smoothed, tmp_path / "named", None, keep=("1:attn1.to_q", "0:ffn.net.2"))
    qkv = {f"blocks.1.attn1.to_{part}" for part in "qkv"}
    assert found.kept("transformer") == {*qkv, "blocks.0.ffn.net.2"}
    both = _quantize(smoothed, tmp_path / "both", stats, keep=("1:attn1.to_q",), keep_size=1024).kept("transformer")
    assert qkv < both
    assert sum("attn" in name for name in both - qkv) == len(both - qkv) == 1
    with pytest.raises(VqError, match="^Block 5 cannot stay in full precision, because the blocks are 0 to 1"):
        _quantize(smoothed, tmp_path / "none", None, keep=("5",))


def test_it_is_chosen_again_when_a_run_is_resumed(
    smoothed: Path, stats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _quantize(smoothed, tmp_path / "whole", stats, keep_size=6000)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("vq_algos.rounding.quantize.kept_linears", killed)
        with pytest.raises(KeyboardInterrupt):
            _quantize(smoothed, tmp_path / "out", stats, keep_size=6000)
    quantize(
        open_weights(smoothed), QuantizeSettings("int8", keep_size=6000), tmp_path / "out", stats=stats, resume=True
    )
    assert open_qparams(tmp_path / "out").kept("transformer") == whole.kept("transformer")


def test_without_being_asked_nothing_is_kept(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    assert _quantize(smoothed, tmp_path / "out", stats).kept("transformer") == frozenset()
    assert "kept" not in json.loads((tmp_path / "out" / "manifest.json").read_text())["measured"]


def test_a_model_of_which_nothing_is_quantized_is_refused(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    with pytest.raises(VqError, match="^Every linear would stay in full precision: keep less"):
        _quantize(smoothed, tmp_path / "out", stats, min_snr=1000.0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "asked"), [("--keep-size", {"keep_size": 1}), ("--min-snr", {"min_snr": 1.0})])
def test_it_needs_tokens(smoothed: Path, tmp_path: Path, option: str, asked: Any) -> None:
    with pytest.raises(VqError, match=f"^`{option}` needs sampled tokens .* give its output as --stats"):
        _quantize(smoothed, tmp_path / "out", None, **asked)


def test_it_needs_a_target_that_mixes(make_smoothed: MakeSmoothed, i2v_model: Path, stats: Any, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"^LightX2V reads every linear of a block in 8 bits: leave --keep, --keep-size"):
        _quantize(make_smoothed(i2v_model, SmoothSettings()), tmp_path / "out", stats, keep_size=1)
