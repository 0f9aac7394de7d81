"""Every recipe that is shipped can be read."""

from pathlib import Path

import pytest

from vq_core.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_say_model_and_scheme(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.model is not None
    assert recipe.scheme == ("fp8" if "fp8" in path.stem else "int8")
