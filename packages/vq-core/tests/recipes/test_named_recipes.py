"""Recipes that come with the package are found by name, say how to quantize, and nothing about a model or a place."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.recipes.named_recipes import named_recipe, recipe_names
from vq_core.recipes.recipe import read_recipe


def test_the_names() -> None:
    assert recipe_names() == ["fp8", "int8", "int8-fast"]
    assert named_recipe("int4") is None


@pytest.mark.parametrize(
    ("name", "scheme", "smooth", "quantize"),
    [("int8", "int8", "auto", "auto"), ("fp8", "fp8", "auto", "auto"), ("int8-fast", "int8", "noise", "clip")],
)
def test_what_they_say(
    name: str, scheme: str, smooth: str, quantize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(Path(name))
    assert recipe.model_dump(exclude_none=True, exclude_defaults=True) == {
        "scheme": scheme,
        "smooth": {"method": smooth, "groups": "all"},
        "quantize": {"method": quantize},
    }


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "int8").write_text("seed: 5")
    monkeypatch.chdir(tmp_path)
    assert read_recipe(Path("int8")).seed == 5


@pytest.mark.parametrize("path", ["int9", "folder/int8", "int8.yaml"])
def test_an_unknown_name_lists_the_known_ones(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VqError, match=f"There is no recipe {path}: give a YAML file, or one of the names fp8, int8, "):
        read_recipe(Path(path))
