"""Quantization of whole models to several schemes, of which each input has one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.show import rounding_rows
from vq_algos.smoothed_for import other_scheme
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats, Tokens
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError

MakeSmoothed = Callable[..., Path]


@pytest.fixture
def smoothed(make_smoothed: MakeSmoothed, filled_model: Path) -> Path:
    return make_smoothed(filled_model, SmoothSettings(target="native"))


def _quantize(weights: Path, output: Path, stats: ActivationStats | None, scheme: str, **settings: Any) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings(scheme, **settings), output, stats=stats)
    return open_qparams(output)


def _snrs(qparams: QuantParams) -> dict[str, float]:
    return {name: how["output_snr_db"] for name, how in qparams.decisions("transformer").items()}


def _same_linear(one: QuantParams, other: QuantParams, linear: str) -> bool:
    pairs = zip(one.linear("transformer", linear)[:3], other.linear("transformer", linear)[:3], strict=True)
    return all(a == b if isinstance(a, int) else torch.equal(a.float(), b.float()) for a, b in pairs)


@pytest.fixture
def massive(
    make_model: Callable[..., Path],
    make_smoothed: MakeSmoothed,
    make_token_stats: Callable[[Path], ActivationStats],
    i2v_config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, ActivationStats]:
    """Smoothed weights and tokens of which one channel behind GELU is so large that INT8 rounds the others away."""
    wide = make_model(i2v_config | {"ffn_dim": 512}, name="wide")
    stats = make_token_stats(wide)
    whole = type(stats).tokens

    def tokens(self: ActivationStats, component: str, group: str, *more: Any) -> Tokens:
        found = whole(self, component, group, *more)
        if group == "blocks.1.ffn.down":
            found.rows[:, 7] = 60 * found.rows.abs().mean()
            found.rows[::2, 7] *= -1  # not to be a mean
        return found

    monkeypatch.setattr(type(stats), "tokens", tokens)
    return make_smoothed(wide, SmoothSettings(target="native"), name="smoothed-wide"), stats


def test_every_input_has_the_codes_of_its_best_scheme(massive: tuple[Path, ActivationStats], tmp_path: Path) -> None:
    smoothed, stats = massive
    alone = {name: _quantize(smoothed, tmp_path / name, stats, name, center=True) for name in ("int8", "fp8")}
    mixed = _quantize(smoothed, tmp_path / "mixed", stats, "int8+fp8", center=True)
    snrs, topology = {name: _snrs(it) for name, it in alone.items()}, open_weights(smoothed).components["transformer"]
    chosen: set[str] = set()
    for name, decision in mixed.decisions("transformer").items():
        scheme = decision["scheme"]
        chosen.add(scheme)
        assert mixed.scheme_of("transformer", name).name == scheme
        assert _same_linear(mixed, alone[scheme], name)
        group = topology.topology.group_of(name)
        together = [it for it in group.reads if it.partition(".attn")[0] == name.partition(".attn")[0]]
        better = all(snrs["fp8"][it] >= snrs["int8"][it] for it in together)
        assert (scheme == "fp8") == better
    assert chosen == {"int8", "fp8"}
    rows = rounding_rows(mixed)["transformer schemes"]
    assert sum(int(part.rpartition(" ")[2]) for part in rows.split(", ")) == len(topology.topology.linears)


def test_more_bits_only_where_few_lose_too_much(smoothed: Path, filled_stats: ActivationStats, tmp_path: Path) -> None:
    four = _snrs(_quantize(smoothed, tmp_path / "four", filled_stats, "w4a8", rotate="all"))
    least = sorted(four.values())[len(four) // 2]
    mixed = _quantize(smoothed, tmp_path / "mixed", filled_stats, "w4a8+int8", min_snr=least, keep_size=0)
    decisions = mixed.decisions("transformer")
    assert {how["scheme"] for how in decisions.values()} == {"w4a8", "int8"}
    for name, how in decisions.items():
        assert how["scheme"] == "int8" or how["output_snr_db"] == four[name] >= least
    groups = open_weights(smoothed).components["transformer"].topology.group_of
    raised = {(groups(name).name, name[:8]) for name, how in decisions.items() if how["scheme"] == "int8"}
    assert raised == {(groups(name).name, name[:8]) for name, snr in four.items() if snr < least}


def test_what_even_more_bits_do_not_help_stays_in_full_precision(
    smoothed: Path, filled_stats: ActivationStats, tmp_path: Path
) -> None:
    eight = sorted(_snrs(_quantize(smoothed, tmp_path / "eight", filled_stats, "int8")).values())
    mixed = _quantize(smoothed, tmp_path / "mixed", filled_stats, "w4a8+int8", min_snr=eight[3])
    kept = {name: how for name, how in mixed.decisions("transformer").items() if "kept" in how}
    assert kept.keys() == mixed.kept("transformer")
    assert min(how["output_snr_db"] for how in kept.values()) < eight[3]


def test_it_needs_tokens(smoothed: Path, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"^`--scheme int8\+fp8` needs sampled tokens .* give its output as --stats"):
        _quantize(smoothed, tmp_path / "out", None, "int8+fp8")


def test_smoothing_is_for_the_first_scheme(smoothed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = open_weights(smoothed)
    monkeypatch.setitem(tuned.artifact.manifest.settings, "method", "auto")
    monkeypatch.setitem(tuned.artifact.manifest.settings, "scheme", "fp8+int8")
    schemes = ("fp8", "int8", "int8+fp8", "w4a8+int8")
    assert [other_scheme(tuned, scheme) for scheme in schemes] == [None, "fp8+int8", None, "fp8+int8"]
