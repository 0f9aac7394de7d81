"""Names of kept linears are those of the transformer, or the artifact is refused."""

from pathlib import Path

import pytest

from vq_core.artifacts.kept_names import kept_names
from vq_core.errors import VqError

KNOWN = ("a", "b")


def test_of_each_component_its_own() -> None:
    said = {"high": ["a"], "low": ["a", "b"]}
    assert kept_names(said, "low", KNOWN, Path("x")) == {"a", "b"}
    assert kept_names(said, "high", KNOWN, Path("x")) == {"a"}
    assert kept_names(said, "other", KNOWN, Path("x")) == frozenset()
    assert kept_names({}, "low", KNOWN, Path("x")) == frozenset()


@pytest.mark.parametrize("said", [{"low": ["c"]}, {"low": "a b"}, {"low": [["a"]]}, {"low": 3}, ["a", 5], None])
def test_anything_else_is_refused(said: object) -> None:
    with pytest.raises(VqError, match="^x keeps .* in full precision, which is none of its linears: make it again"):
        kept_names(said, "low", KNOWN, Path("x"))
