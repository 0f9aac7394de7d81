from pathlib import Path
from typing import Any

import pytest

from vq_eval.compare.schema import CompareReport
from vq_eval.report.provenance import chains_of


@pytest.fixture
def compared(world: Any) -> CompareReport:
    return CompareReport.model_validate_json((world.comparison / "compare.json").read_bytes())


def test_a_chain_leads_from_the_videos_to_the_model(compared: CompareReport) -> None:
    chain = chains_of(compared.rows, [])["int8 auto"]
    kinds = ["videos", "quant-params", "smoothed-weights", "activation-stats", "model"]
    assert [link.kind for link in chain] == kinds
    assert chain[2].settings == {"method": "auto"}
    assert chain[3].tool == "vq-test 0.1.0"
    assert (chain[-1].name, chain[-1].digest) == ("tiny-model", "f" * 64)


def test_of_an_artifact_that_is_gone_the_digest_is_said(compared: CompareReport, tmp_path: Path) -> None:
    auto = compared.rows[2]
    assert auto.provenance is not None
    moved = auto.model_copy(
        update={"provenance": auto.provenance.model_copy(update={"path": str(tmp_path / "videos")})}
    )
    chain = chains_of([moved], [])["int8 auto"]
    assert [(link.kind, link.tool) for link in chain[1:-1]] == [("quant-params", None), ("smoothed-weights", None)]
    elsewhere = chains_of([moved], [Path(auto.provenance.path).parent])["int8 auto"]
    assert [link.kind for link in elsewhere][3] == "activation-stats"


def test_a_row_without_a_manifest_has_no_chain(compared: CompareReport) -> None:
    assert chains_of([compared.rows[0].model_copy(update={"provenance": None})], []) == {}


def test_settings_are_text(compared: CompareReport) -> None:
    auto = compared.rows[2]
    assert auto.provenance is not None
    settings = {"steps": 4, "ignored": {"transformer": ["a", "b"]}, "none": None, "empty": [], "nested": [{"x": 1}]}
    told = auto.model_copy(update={"provenance": auto.provenance.model_copy(update={"settings": settings})})
    assert chains_of([told], [])["int8 auto"][0].settings == {"steps": "4", "ignored.transformer": "a, b"}
