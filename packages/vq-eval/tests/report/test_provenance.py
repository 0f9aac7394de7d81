from pathlib import Path
from typing import Any

from vq_eval.compare.schema import CompareReport
from vq_eval.report.provenance import chains_of, digest_of, find_manifests


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


def test_manifests_are_found_by_their_digest(world: Any, compared: CompareReport) -> None:
    root = world.comparison.parent
    found = find_manifests([root])
    provenance = compared.rows[2].provenance
    assert provenance is not None
    assert found[provenance.digest].kind == "videos"
    assert {found[digest].kind for digest in provenance.parents.values()} == {"quant-params", "smoothed-weights"}
    assert digest_of(root / "stats") in found
    assert find_manifests([root / "stats"]).keys() == {digest_of(root / "stats")}


def test_what_is_no_manifest_is_passed_over(tmp_path: Path) -> None:
    for name, text in {"a": "{}", "b": "no json", "c": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
        assert digest_of(tmp_path / name) is None
    assert find_manifests([tmp_path, tmp_path / "missing"]) == {}
