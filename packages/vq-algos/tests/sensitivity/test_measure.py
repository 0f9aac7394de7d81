"""What rounding one linear costs, against the literal formula in fp64."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_algos.sensitivity.measure import Cost, costs, report_costs
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights


def test_every_linear_under_every_scheme_the_most_expensive_first(smoothed: Path, stats: ActivationStats) -> None:
    found = costs(open_weights(smoothed), stats)
    linears = open_weights(smoothed).components["transformer"].topology.linears
    assert {(cost.linear, cost.scheme) for cost in found} == {
        (linear.name, scheme) for linear in linears for scheme in ("int8", "fp8")
    }
    assert [cost.relative_error for cost in found] == sorted((cost.relative_error for cost in found), reverse=True)


def test_the_cost_is_the_formula(
    smoothed: Path, stats: ActivationStats, int8_rows: Callable[[np.ndarray], np.ndarray]
) -> None:
    component = open_weights(smoothed).components["transformer"]
    name = "blocks.1.attn1.to_out.0"
    group = component.topology.group_of(name)
    tokens = stats.tokens("transformer", group.name, "held-out")
    x = tokens.rows.double().numpy() * component.gain(group.gain).double().numpy()
    w, t = component.plain([f"{name}.weight"])[f"{name}.weight"].double().numpy(), tokens.weight.double().numpy()
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    x_hat, w_hat = np.round(x / step) * step, int8_rows(w)

    def snr(output: np.ndarray) -> float:
        noise = (t * np.square(x @ w.T - output).sum(axis=1)).sum()
        return float(10 * np.log10((t * np.square(x @ w.T).sum(axis=1)).sum() / noise))

    (cost,) = [one for one in costs(open_weights(smoothed), stats) if (one.linear, one.scheme) == (name, "int8")]
    assert cost.output_snr_db == pytest.approx(snr(x_hat @ w_hat.T), abs=0.02)
    assert cost.activation_snr_db == pytest.approx(snr(x_hat @ w.T), abs=0.02)
    assert cost.weight_only_snr_db == pytest.approx(snr(x @ w_hat.T), abs=0.02)
    assert -10 * np.log10(cost.relative_error) == pytest.approx(cost.output_snr_db, abs=1e-3)


COSTS = [
    Cost("transformer", "blocks.1.ffn.net.2", "int8", 0.03, 15.2, 15.4, 30.0),
    Cost("transformer", "blocks.0.attn1.to_q", "int8", 0.01, 20.0, None, 30.0),
    Cost("transformer", "blocks.0.attn1.to_q", "fp8", 0.002, 27.0, 30.0, 30.0),
]


def test_the_share_is_of_all_linears_of_the_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    report_costs(COSTS, top=1, as_json=False)
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if "ffn.net.2" in line]
    assert row.split()[1:] == ["75.0", "%", "15.2", "15.4", "30.0"]
    assert "int8: 1 of 2 linears" in printed
    assert "fp8: 1 of 1 linears" in printed


def test_json_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    report_costs(COSTS, top=1, as_json=True)
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert len(costs) == 3
    assert costs[1]["activation_snr_db"] is None
