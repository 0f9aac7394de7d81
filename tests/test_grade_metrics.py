"""The grade of wan-tiny's world is a metric of `vq-eval compare` like any other, and says what the grader says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.media.video import write_video
from vq_wan_tiny.prompts import draw_clips, write_prompts

COUNT, SEED = 3, 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prompts`, the clips of the world that they tell of in `real`, and clips that stand still in `still`."""
    folder = tmp_path_factory.mktemp("world")
    write_prompts(folder / "prompts", COUNT, SEED, held_out=True)
    for index, (_, frames) in enumerate(draw_clips(COUNT, SEED, held_out=True)):
        write_video(folder / "real" / f"{index:03d}.mkv", frames, 8)
        write_video(folder / "still" / f"{index:03d}.mkv", np.repeat(frames[:1], len(frames), axis=0), 8)
    return folder


def test_the_figures_are_those_of_the_grader(run: Any, world: Path, tmp_path: Path) -> None:
    compared = run(
        "vq-eval compare", "--reference", world / "real", "--candidate", world / "still",
        "--prompts", world / "prompts", "--metrics", "wan_tiny_direction,wan_tiny_speed,wan_tiny_first_frame",
        "-o", tmp_path / "report",
    )  # fmt: skip
    assert compared["unavailable"] == {}
    for row in (compared["reference"], *compared["rows"]):
        graded = run("vq-wan-tiny grade", row["folder"], "--prompts", world / "prompts")["videos"]
        for video, grade in zip(row["videos"], graded, strict=True):
            for what in ("direction", "speed"):
                share = sum(shape[what] for shape in grade["shapes"]) / len(grade["shapes"])
                assert video["figures"][f"wan_tiny_{what}"]["video"] == pytest.approx(share)
            assert video["figures"]["wan_tiny_first_frame"]["video"] == grade["first_frame_db"]
    assert compared["reference"]["overall"]["wan_tiny_direction"]["mean"] == 1
    assert compared["rows"][0]["overall"]["wan_tiny_direction"]["mean"] < 1
