"""Reading YAML safely, and the sentence that every mistake in it becomes."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vq_core.errors import VqError
from vq_core.recipes.typed_yaml import Section, Unheeded, load_yaml, only, unheeded, validated


class Engine(Section):
    cylinders: Annotated[int, only(4, 6, otherwise="which is not built: set it to 4 or 6.")]
    fuel: Annotated[str | None, Unheeded("every fuel burns")] = None


class Car(Section):
    name: str
    engine: Engine | None = None


@pytest.fixture
def yaml_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "car.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_what_a_file_is_for_is_named_in_its_sentences(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"There is no recipe .*absent\.yaml"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(VqError, match=r"There is no gate .*absent\.yaml: give a YAML file\.$"):
        load_yaml(tmp_path / "absent.yaml", what="gate")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(VqError, match=r"The gate .*list\.yaml holds no settings"):
        load_yaml(tmp_path / "list.yaml", what="gate")


def test_what_holds_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="is a folder"):
        load_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(VqError, match="is a named pipe, and a file is needed there"):
        load_yaml(tmp_path / "pipe.yaml")
    (tmp_path / "weights.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VqError, match="is not UTF-8 text"):
        load_yaml(tmp_path / "weights.yaml")


UNREADABLE = {
    "key twice": ("a: 1\nb: 2\na: 3", "`a` is given twice in {file}, lines 1 and 3: keep one of them."),
    "key twice in a line": ("a: {b: 1, b: 2}", "`b` is given twice in {file}, lines 1 and 1"),
    "key twice in a list": ("a:\n- {b: 1}\n- {b: 1,\n   b: 2}", "`b` is given twice in {file}, lines 3 and 4"),
    "syntax": ("a: 1\nb: {c: 2\n", "The recipe {file} is not valid YAML, line 3"),
    "unknown alias": ("a: 1\nb: *c", "The recipe {file} is not valid YAML, line 2 (found undefined alias"),
    "control character": ("a: 1\x07", "The recipe {file} is not valid YAML ("),
    "impossible date": ("a: 2026-99-99", "The recipe {file} is not valid YAML ("),
    "tag that runs code": ("a: !!python/object/apply:os.getpid []", "The recipe {file} is not valid YAML, line 1"),
    "two documents": ("a: 1\n---\na: 2", "The recipe {file} is not valid YAML, line 2"),
    "list": ("- a", "The recipe {file} holds no settings"),
    "word": ("a", "The recipe {file} holds no settings"),
    "empty": ("", "The recipe {file} holds no settings"),
}


@pytest.mark.parametrize(("text", "sentence"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_yaml_is_refused_in_one_sentence(yaml_file, text: str, sentence: str) -> None:
    path = yaml_file(text)
    with pytest.raises(VqError) as refused:
        load_yaml(path)
    assert str(refused.value).startswith(sentence.format(file=path))
    assert "\n" not in str(refused.value)


def test_an_alias_is_no_key_given_twice(yaml_file) -> None:
    assert load_yaml(yaml_file("a: &x {b: 1}\nc: *x\nd: *x")) == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}}


def test_a_merged_mapping_may_be_overridden(yaml_file) -> None:
    assert load_yaml(yaml_file("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}"))["d"] == {"b": 1, "c": 3}


MISTAKES = {
    "unknown": (
        {"name": "x", "nmae": "y"},
        "`nmae` in car.yaml is not a known key (did you mean `name`?); known here: name, ",
    ),
    "unknown in a section": (
        {"name": "x", "engine": {"cylinders": 4, "feul": "gas"}},
        "`engine.feul` in car.yaml is not a known key (did you mean `fuel`?); known here: cylinders, fuel.",
    ),
    "unlike any": ({"name": "x", "wheels": 4}, "`wheels` in car.yaml is not a known key; known here: name, engine."),
    "missing": ({}, "`name` is missing in car.yaml: add it."),
    "misspelt and so missing": ({"nam": "x"}, "`nam` in car.yaml is not a known key (did you mean `name`?)"),
    "type": ({"name": 3}, "`name` in car.yaml is 3: it should be a valid string."),
    "no section": (
        {"name": "x", "engine": 4},
        "`engine` in car.yaml is 4: it should be a section of `key: value` lines.",
    ),
    "not allowed": (
        {"name": "x", "engine": {"cylinders": 5}},
        "`engine.cylinders` in car.yaml is 5, which is not built: set",
    ),
}


@pytest.mark.parametrize(("document", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(document: dict[str, object], sentence: str) -> None:
    with pytest.raises(VqError) as refused:
        validated(Car, document, Path("car.yaml"))
    assert str(refused.value).startswith(sentence)


def test_only_tells_types_apart() -> None:
    class Flag(Section):
        value: Annotated[object, only(1, "a", None, otherwise="which is wrong.")]

    for value in (1, "a", None):
        assert validated(Flag, {"value": value}, Path("f")).value == value
    for value in (True, 1.0, "1", 0, False, [], ""):
        with pytest.raises(VqError, match="which is wrong"):
            validated(Flag, {"value": value}, Path("f"))


@given(st.none() | st.text())
def test_a_key_without_effect_is_named_where_the_file_gives_it(fuel: str | None) -> None:
    car = validated(Car, {"name": "x", "engine": {"cylinders": 4, "fuel": fuel}}, Path("f"))
    assert list(unheeded(car)) == ([] if fuel is None else [("engine.fuel", "every fuel burns")])


def test_a_key_that_the_file_leaves_out_is_not_named() -> None:
    assert list(unheeded(validated(Car, {"name": "x", "engine": {"cylinders": 6}}, Path("f")))) == []


def growing(first: str, level: str) -> str:
    """Ten anchors, of which each one after the `first` names the one before nine times."""
    names = "abcdefghij"
    lines = [f"{name}: &{name} " + level.format(", ".join([f"*{before}"] * 9)) for before, name in pairwise(names)]
    return "\n".join([f"a: &a {first}", *lines])


HOSTILE = {
    "aliases": (growing("[x]", "[{}]"), "has aliases that make 100000 values and more"),
    "merges": (growing("{x: 1}", "{{<<: [{}]}}"), "has aliases that make 100000 values and more"),
    "deep lists": ("[" * 5000, "is nested too deeply"),
    "deep mappings": ("{a: " * 2000, "is nested too deeply"),
    "a list in itself": ("a: &a [*a]", "is nested too deeply, or in itself"),
    "a merge with itself": ("a: &a\n  <<: *a", "is nested too deeply, or in itself"),
    "a program": ("a: !!python/object/apply:os.system [ls]", "is not valid YAML, line 1"),
    "another tag": ("a: !x 1", "is not valid YAML, line 1"),
    "digits": ("a: " + "9" * 5000, "a whole number has 5000 characters"),
    "hexadecimal digits": ("a: 0x" + "f" * 9000, "a whole number has 9002 characters"),
    "sexagesimal digits": ("a: 1" + ":59" * 3000, "a whole number has 9001 characters"),
    "size": ("a: 1\n" + "#" * (1 << 20), "is larger than 1 MiB"),
}


@pytest.mark.parametrize(("text", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_would_fill_the_memory_is_refused(yaml_file, text: str, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        load_yaml(yaml_file(text))
