from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_eval.compare.limits import Limit, option_limits, read_gate


def _gate(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return path


def test_options_hold_every_video() -> None:
    assert option_limits({"psnr": 30.0, "ssim": None}) == (Limit("psnr", "worst", 30.0, "--min-psnr 30"),)


@pytest.mark.parametrize("minimum", [float("nan"), float("inf"), float("-inf")])
def test_an_option_that_is_not_finite_is_refused(minimum: float) -> None:
    with pytest.raises(VqError, match="--min-psnr .* is not a threshold: give a finite number"):
        option_limits({"psnr": minimum})


def test_a_file_gives_a_limit_for_each_figure_it_names(tmp_path: Path) -> None:
    path = _gate(
        tmp_path,
        "gates:\n"
        "  - {metric: psnr, worst: 25, mean: 28.5, worse_than_floor_by: 3}\n"
        "  - {metric: flicker, worse_than_reference_by: 0.5, rows: [INT8 auto]}\n",
    )
    assert read_gate(path) == (
        Limit("psnr", "worst", 25.0, "gate.yaml"),
        Limit("psnr", "mean", 28.5, "gate.yaml"),
        Limit("psnr", "worse_than_floor_by", 3.0, "gate.yaml"),
        Limit("flicker", "worse_than_reference_by", 0.5, "gate.yaml", ("INT8 auto",)),
    )


def test_json_is_read_too(tmp_path: Path) -> None:
    assert read_gate(_gate(tmp_path, '{"gates": [{"metric": "ssim", "worst": 0.9}]}')) == (
        Limit("ssim", "worst", 0.9, "gate.yaml"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gates: []", "`gates` in .*gate.yaml is "),
        ("gates: [{metric: psnr}]", "which limits nothing: give it one of worst, mean, worse_than_floor_by"),
        ("gates: [{metric: psnr, least: 3}]", "`gates.0.least` in .* is not a known key"),
        ("gates: [{worst: 3}]", "`gates.0.metric` is missing in"),
        ("gates: [{metric: psnr, worst: .nan}]", "`gates.0.worst` in .* is nan"),
        ("gates: [{metric: psnr, worse_than_floor_by: -1}]", "`gates.0.worse_than_floor_by` in .* is -1"),
        ("psnr: 30", "`psnr` in .* is not a known key"),
        ("- psnr", "The gate .*gate.yaml holds no settings"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=sentence):
        read_gate(_gate(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"There is no gate .*nothing.yaml: give a YAML file\.$"):
        read_gate(tmp_path / "nothing.yaml")
