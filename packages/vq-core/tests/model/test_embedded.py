"""Models by name: found through what is installed, and the one that is taken where none is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.embedded import DEFAULT_MODEL, embedded_default, embedded_model, embedded_names
from vq_core.model.source import open_source, resolve_model

Config = dict[str, Any]
RandomTensors = Callable[..., dict[str, Tensor]]
WriteTransformer = Callable[..., Path]


def test_an_installed_package_brings_its_model(embedded: Path) -> None:
    assert "pocket" in embedded_names()
    assert embedded_names() == sorted(embedded_names())
    assert embedded_model("pocket") == embedded


def test_other_names_are_not_those_of_a_model() -> None:
    assert embedded_model("pocket") is None
    assert embedded_model("some/where") is None


@pytest.mark.usefixtures("nothing_embedded")
@pytest.mark.parametrize("name", ["wan-tiny", "wan-tiny-hard", "wan-tiny-harder"])
def test_a_missing_model_of_ours_is_named_with_its_package(name: str) -> None:
    with pytest.raises(VqError, match=f"model {name} is not installed: `pip install vq-wan-tiny`"):
        embedded_model(name)


def test_the_default_is_our_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vq_core.model.embedded.embedded_names", lambda: [DEFAULT_MODEL])
    assert embedded_default() == "wan-tiny"


@pytest.mark.usefixtures("nothing_embedded")
def test_without_the_package_a_model_must_be_said() -> None:
    with pytest.raises(VqError, match=r"`--model` is missing: give it, .*or `pip install vq-wan-tiny`"):
        embedded_default()


def test_an_embedded_model_is_opened_by_its_name(
    embedded: Path, i2v_config: Config, random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> None:
    embedded.rmdir()
    write_transformer(embedded, i2v_config, random_tensors(i2v_config))
    source = open_source("pocket")
    assert (source.name, source.path) == ("pocket", embedded)
    assert source.fingerprints == open_source(str(embedded)).fingerprints


def test_a_folder_of_the_same_name_comes_first(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pocket").mkdir()
    assert resolve_model("pocket") == embedded
    monkeypatch.chdir(tmp_path)
    assert resolve_model("pocket") == Path("pocket")


@pytest.mark.usefixtures("embedded")
def test_a_name_that_is_nothing_is_told_the_embedded_models() -> None:
    with pytest.raises(VqError, match=r"or choose a built-in model \(pocket.*\)\.$"):
        resolve_model("pockt")


@pytest.mark.usefixtures("nothing_embedded")
def test_without_embedded_models_none_is_spoken_of() -> None:
    with pytest.raises(VqError, match=r"check the path\.$"):
        resolve_model("pocket")
