"""Recipes that come with the package and are chosen by name, from any folder: how to quantize, whatever the model."""

from pathlib import Path

FOLDER = Path(__file__).parent / "named"


def recipe_names() -> list[str]:
    """Names of the recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def named_recipe(name: str) -> Path | None:
    """File of the recipe `name`; None where no recipe is called so."""
    return FOLDER / f"{name}.yaml" if name in recipe_names() else None
