from pathlib import Path
from typing import Any

from vq_eval.compare.schema import CompareReport
from vq_eval.report.manifests import digest_of, find_manifests


def test_manifests_are_found_by_their_digest(world: Any) -> None:
    compared = CompareReport.model_validate_json((world.comparison / "compare.json").read_bytes())
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
