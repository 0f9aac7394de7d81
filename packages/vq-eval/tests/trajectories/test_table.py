import pytest

from vq_eval.trajectories.schema import TrajectoryReport
from vq_eval.trajectories.table import print_trajectories, rows_of


def test_every_candidate_has_a_row(report: TrajectoryReport, capsys: pytest.CaptureFixture[str]) -> None:
    print_trajectories(report)
    printed = capsys.readouterr().out
    for candidate, row in zip(report.candidates, rows_of(report), strict=True):
        (line,) = [line for line in printed.splitlines() if line.startswith(candidate.name)]
        assert f"{candidate.summary.final_error:.2e}" in line
        assert row["final_error"] == candidate.summary.final_error
    worst = report.steps[report.candidates[1].summary.worst_step]
    assert f"(sigma {worst.sigma:.3f}, transformer)" in printed
