import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vq_core.discover import installed_names, load_installed, load_plugin, plugin_names
from vq_core.errors import VqError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with plugins: two modules, a package, a private module, and one that cannot be imported."""
    folder = tmp_path / "zoo_plugins"
    (folder / "whale").mkdir(parents=True)
    for name, text in {"__init__": "", "ant": "LEGS = 6", "_shared": "", "broken": "1 / 0"}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "whale" / "__init__.py").write_text("LEGS = 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield "zoo_plugins"
    for module in [name for name in sys.modules if name.startswith("zoo_plugins")]:
        del sys.modules[module]


def test_a_file_is_a_plugin_and_none_is_imported_to_know_it(package: str) -> None:
    assert plugin_names(package) == ["ant", "broken", "whale"]


def test_loads_modules_and_packages(package: str) -> None:
    assert load_plugin(package, "ant").LEGS == 6
    assert load_plugin(package, "whale").LEGS == 0


@pytest.mark.parametrize("name", ["bee", "", "_shared", "ant.LEGS", "../ant"])
def test_refuses_an_unknown_name_and_lists_the_known(package: str, name: str) -> None:
    with pytest.raises(VqError, match=r"is not one of the zoo_plugins \(ant, broken, whale\): choose one of those"):
        load_plugin(package, name)


def test_a_plugin_that_fails_is_a_bug(package: str) -> None:
    with pytest.raises(ZeroDivisionError):
        load_plugin(package, "broken")


def test_what_an_installed_package_brings_is_found_by_name(embedded: Path) -> None:
    assert "pocket" in installed_names("vq_core.models")
    assert load_installed("vq_core.models", "pocket")() == embedded
    assert load_installed("vq_core.models", "rocket") is None
