import json

import pytest

from vq_algos.sensitivity.measure import Cost
from vq_algos.sensitivity.report import report_costs

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
