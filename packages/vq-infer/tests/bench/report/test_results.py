"""Ratios, errors and what is written down."""

import json

import numpy as np
import pytest

from vq_infer.bench.report.results import Results, extrapolate, relative_error


def test_ratios_are_to_the_same_run(results: Results) -> None:
    ours = results.row("vq_fp8")
    assert ours is not None
    assert results.ratio(ours, "diffusers_eager") == 1.5
    assert results.ratio(ours, "torchao_fp8") == 1.125
    assert results.ratio(ours, "nobody") is None
    assert results.ratio(results.rows[-1], "diffusers_eager") is None
    assert ours.median_of("watts") == 690.0
    assert ours.median_of("celsius") is None


def test_json_is_plain(results: Results) -> None:
    content = json.loads(json.dumps(results.to_json()))
    assert content["rows"][2]["ratios"]["diffusers_eager"] == 1.5
    assert content["workload"]["tokens"] == 16
    assert "prediction" not in content["rows"][0]["first"]


def test_relative_error() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    assert relative_error(reference * np.float32(1.5), reference) == pytest.approx(0.5)


def test_extrapolates_by_the_further_block() -> None:
    assert extrapolate(one=1.0, many=2.5, blocks=4, whole=40) == pytest.approx(1.0 + 39 * 0.5)
