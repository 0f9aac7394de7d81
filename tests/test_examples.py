"""The examples run as they are, on sizes that take seconds."""

import runpy
from pathlib import Path

from vq_core.sampling.settings import Sampling

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_road(tmp_path: Path) -> None:
    walk = runpy.run_path(str(EXAMPLES / "road.py"))["walk"]
    result = walk(tmp_path, Sampling(steps=2, height=64, width=64, num_frames=5))
    assert result.weight_snr_db > 30
    assert result.psnr_db > 25
    assert (tmp_path / "report" / "compare.json").is_file()
