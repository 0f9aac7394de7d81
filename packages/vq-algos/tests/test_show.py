import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.show import _together, rounding_rows, show, smoothing_rows
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.numerics.scheme import ROUNDING_NOTE

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeSmoothed = Callable[..., Path]

ZERO = "blocks.1.attn2.to_out.0"


@pytest.fixture
def qparams(make_model: MakeModel, make_smoothed: MakeSmoothed, i2v_config: Config, tmp_path: Path) -> Path:
    """Quant params of a model in which one linear is all zeros."""
    model = make_model(i2v_config, edit={f"{ZERO}.weight": torch.zeros(32, 32, dtype=torch.bfloat16)})
    output = tmp_path / "qparams"
    quantize(open_weights(make_smoothed(model)), QuantizeSettings("int8"), output)
    return output


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_smoothing_is_summed_up(smoothed: Path, i2v_model: Path, make_smoothed: MakeSmoothed) -> None:
    summary = smoothing_rows(open_weights(smoothed))["transformer"]
    assert summary.startswith("12 of 12 groups smoothed, largest ratio of s within one ")
    decisions = open_weights(smoothed).decisions("transformer").values()
    assert float(summary.split()[-1]) == pytest.approx(max(one["s_max"] / one["s_min"] for one in decisions), rel=5e-3)
    plain = open_weights(make_smoothed(i2v_model, SmoothSettings(method="none"), name="plain"))
    assert smoothing_rows(plain)["transformer"] == "0 of 12 groups smoothed, largest ratio of s within one 1"


def test_rounding_is_summed_up_by_the_worst_linear(qparams: Path) -> None:
    opened = open_qparams(qparams)
    snr = {name: entry["weight_snr_db"] for name, entry in opened.decisions("transformer").items() if name != ZERO}
    worst = min(snr, key=snr.__getitem__)
    summary = rounding_rows(opened)["transformer"]
    assert summary.startswith("24 linears, weight SNR median ")
    assert summary.endswith(f"lowest {snr[worst]:.1f} dB ({worst})")


def test_what_is_kept_is_named_and_not_judged(
    make_smoothed: MakeSmoothed, i2v_model: Path, stats: ActivationStats, tmp_path: Path
) -> None:
    weights = open_weights(make_smoothed(i2v_model, SmoothSettings(target="native"), name="native"))
    for name, size in (("without", None), ("some", 3000)):
        quantize(weights, QuantizeSettings("int8", keep_size=size), tmp_path / name, stats=stats)
    opened = open_qparams(tmp_path / "some")
    kept = sorted(opened.kept("transformer"))
    rows = rounding_rows(opened)
    assert rows["transformer"].startswith(f"{24 - len(kept)} linears, output SNR")
    assert not any(f"({linear})" in rows["transformer"] for linear in kept)
    said = rows["transformer in full precision"]
    assert said.startswith(f"{len(kept)} of 24 linears: {kept[0]}")
    assert "transformer in full precision" not in rounding_rows(open_qparams(tmp_path / "without"))


@pytest.mark.parametrize(("scheme", "said"), [("fp8", True), ("int8", False)])
def test_the_summary_says_what_qtorch_is(smoothed: Path, tmp_path: Path, scheme: str, said: bool) -> None:
    quantize(open_weights(smoothed), QuantizeSettings(scheme, rounding="qtorch"), tmp_path / "q")
    rows = rounding_rows(open_qparams(tmp_path / "q"))
    assert rows.get("rounding") == (f"qtorch: {ROUNDING_NOTE}" if said else None)


def test_places_are_shown_over_all_blocks(smoothed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(smoothed, every=False, as_json=False)
    printed = capsys.readouterr().out
    for part in ("smoothed: transformer", "group", "s median", "attn1.qkv", "ffn.up", "text", "image", "smoothquant"):
        assert part in printed
    assert "blocks." not in printed


def test_every_linear_is_shown_on_request_and_a_place_that_is_exact_in_some_blocks_shows_the_others(
    qparams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(qparams, every=True, as_json=False)
    lines = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if "blocks." in line}
    assert len(lines) == 24
    assert lines.pop(ZERO) == "exact"
    assert all(float(cell) > 20 for cell in lines.values())
    show(qparams, every=False, as_json=False)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("attn2.to_out.0 ")]
    other = open_qparams(qparams).decisions("transformer")[ZERO.replace("1", "0", 1)]["weight_snr_db"]
    assert float(row.split()[-1]) == pytest.approx(other, abs=0.05)


def test_json_is_json(qparams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    show(qparams, every=False, as_json=True)
    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed["settings"] == open_qparams(qparams).artifact.manifest.settings
    assert printed["decisions"]["transformer"][ZERO] == {"method": "rtn", "weight_snr_db": None}


def test_a_folder_that_is_no_artifact_is_refused(i2v_model: Path) -> None:
    with pytest.raises(VqError, match="model .*smoothed-weights.*no manifest.json"):
        show(i2v_model, every=False, as_json=False)


# --- with sampled tokens -------------------------------------------------------------------------


@pytest.fixture
def judged(i2v_model: Path, stats: ActivationStats, tmp_path: Path) -> tuple[Path, Path]:
    """Weights and quant params that were chosen on held-out tokens."""
    smooth(open_source(str(i2v_model)), stats, SmoothSettings("auto", "int8"), tmp_path / "auto")
    quantize(open_weights(tmp_path / "auto"), QuantizeSettings("int8", "auto"), tmp_path / "q", stats=stats)
    return tmp_path / "auto", tmp_path / "q"


def test_held_out_figures_are_summed_up(judged: tuple[Path, Path]) -> None:
    weights, codes = judged
    decisions = open_qparams(codes).decisions("transformer")
    snr = {name: entry["output_snr_db"] for name, entry in decisions.items()}
    worst = min(snr, key=snr.__getitem__)
    summary = rounding_rows(open_qparams(codes))["transformer"]
    corrected = sum(entry["bias_corrected"] for entry in decisions.values())
    assert corrected
    said = rounding_rows(open_qparams(codes))["transformer biases"]
    assert said == f"{corrected} corrected by --stats; LLMC corrects none (--no-bias-correction)"
    assert summary.startswith("24 linears, output SNR on held-out tokens median ")
    assert summary.endswith(f"lowest {snr[worst]:.1f} dB ({worst})")
    assert "(unsmoothed " in smoothing_rows(open_weights(weights))["transformer"]


def test_words_are_counted_and_lists_are_medians(judged: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for artifact in judged:
        show(artifact, every=False, as_json=False)
    printed = capsys.readouterr().out
    assert "bucket snr" in printed
    assert "gptq" in printed
    assert _together(["noise", "awq", "noise"]) == "noise 2, awq 1"
    assert _together([True, False, True]) == "2 of 3"
    assert _together([[1.0, None], [3.0, None], [8.0, None]]) == [3.0, None]
    assert _together([None, None]) is None
