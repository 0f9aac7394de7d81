from pathlib import Path

from PIL import Image

from vq_eval.trajectories.picture import draw_trajectories
from vq_eval.trajectories.schema import PICTURE_NAME, TrajectoryReport


def test_the_same_report_gives_the_same_picture_and_experts_are_marked(
    report: TrajectoryReport, drifted: Path, tmp_path: Path
) -> None:
    draw_trajectories(report, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (drifted / PICTURE_NAME).read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (1560, 540)
    first, second = report.steps
    experts = (first, second.model_copy(update={"component": "transformer_2"}))
    draw_trajectories(report.model_copy(update={"steps": experts}), tmp_path / "two.png")
    assert (tmp_path / "two.png").read_bytes() != (tmp_path / "one.png").read_bytes()
