"""What every family must provide; a new module in the families folder is tested here without further ado."""

from typing import get_type_hints

import pytest

from vq_core import families
from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_core.families import Family, family_named, family_of

METHODS = [name for name, value in vars(Family).items() if callable(value) and not name.startswith("_")]


@pytest.fixture(params=plugin_names(families.__name__))
def family(request: pytest.FixtureRequest) -> Family:
    return family_named(request.param)


def test_provides_everything_with_the_names_of_the_contract(family: Family) -> None:
    assert METHODS
    for method in METHODS:
        provided, promised = getattr(family, method), getattr(Family, method)
        hints = {name: hint for name, hint in get_type_hints(promised).items() if name != "self"}
        assert get_type_hints(provided) == hints


def test_names_its_components_and_what_it_ignores(family: Family) -> None:
    assert family.COMPONENTS
    assert all(name.startswith("transformer") for name in family.COMPONENTS)
    assert isinstance(family.IGNORED_TENSORS, tuple)


def test_refuses_foreign_tensors(family: Family) -> None:
    with pytest.raises(VqError, match="`no.such.tensor`"):
        family.to_native("no.such.tensor")
    with pytest.raises(VqError, match="`no.such.tensor`"):
        family.to_diffusers("no.such.tensor")


def test_matches_nothing_by_default(family: Family) -> None:
    assert not family.matches({})


def test_every_expert_has_its_own_folder(family: Family) -> None:
    folders = family.expert_folders(family.COMPONENTS)
    assert tuple(folders) == family.COMPONENTS
    assert len(set(folders.values())) == len(folders)
    assert family.expert_folders(family.COMPONENTS[:1]) == {family.COMPONENTS[0]: ""}


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(VqError, match=r"`flux` is not one of the families \(wan\)"):
        family_named("flux")


def test_an_unknown_model_is_refused_by_its_class() -> None:
    with pytest.raises(VqError, match=r"/m is a FluxTransformer2DModel, which no family here \(wan\) knows"):
        family_of({"_class_name": "FluxTransformer2DModel"}, "/m")
    with pytest.raises(VqError, match="/m is a model without _class_name"):
        family_of({}, "/m")


def test_a_known_model_is_found() -> None:
    name, family = family_of({"_class_name": "WanTransformer3DModel"}, "/m")
    assert (name, family) == ("wan", family_named("wan"))
