import pytest
from pydantic import ValidationError

from vq_eval.layers.schema import LayersReport, Noise
from vq_eval.record import ArtifactId


def test_without_cells_a_report_is_the_same_but_for_them() -> None:
    noise = {"snr_db": 20.0, "noise_to_signal": 0.01}
    cell = {"bucket": 7, "branch": "cond", "own": noise, "in_place": noise, "rounding": noise}
    place = {
        "component": "transformer",
        "kind": "linear",
        "name": "blocks.0.ffn.net.2",
        "block": 0,
        "place": "ffn.net.2",
        "own": noise,
        "in_place": noise,
        "rounding": noise,
        "share": 1.0,
        "cells": (cell,),
    }
    report = LayersReport.model_validate(
        {
            "model": "m",
            "scheme": "int8",
            "weights": ArtifactId(path="w", digest="1"),
            "qparams": ArtifactId(path="q", digest="2"),
            "steps": 4,
            "prompts": (),
            "places": (place,),
            "ranking": {"linears": (), "blocks": (), "buckets": ()},
            "suspects": (),
            "sensitivity": None,
        }
    )
    whole = report.model_dump(mode="json")
    for entry in whole["places"]:
        del entry["cells"]
    assert report.without_cells() == whole
    with pytest.raises(ValidationError):
        Noise(snr_db=float("inf"), noise_to_signal=0)
