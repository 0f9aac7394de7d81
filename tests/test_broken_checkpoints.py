"""Every way in which a checkpoint can be broken is caught, and the page that lists them says so."""

import re
from pathlib import Path

import pytest

from broken_checkpoints.catalogue import CATALOGUE, break_example, judge
from broken_checkpoints.content import Broken
from broken_checkpoints.example import Example, build_examples
from broken_checkpoints.page import PAGE

ENTRIES = [broken for entries in CATALOGUE.values() for broken in entries]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    return build_examples(tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize("name", ["int8", "fp8", "experts"])
def test_the_checkpoints_that_are_broken_are_sound(examples: dict[str, Example], name: str) -> None:
    example = examples[name]
    assert judge(example.checkpoint, example.model).sentences == ()


@pytest.mark.parametrize("name", ["int8", "experts"])
def test_sealing_alone_breaks_nothing(examples: dict[str, Example], tmp_path: Path, name: str) -> None:
    unbroken = Broken("nothing", "", "", lambda content: None, example=name)
    assert judge(break_example(unbroken, examples[name], tmp_path / "copy"), examples[name].model).code == 0


@pytest.mark.parametrize("broken", ENTRIES, ids=lambda broken: broken.name)
def test_is_caught(broken: Broken, examples: dict[str, Example], tmp_path: Path) -> None:
    example = examples[broken.example]
    verdict = judge(break_example(broken, example, tmp_path / "broken"), example.model)
    assert verdict.code in (1, 2)
    assert any(broken.says in sentence for sentence in verdict.sentences), verdict.sentences
    # What tells is what was broken, not the seal: that is for damage alone.
    assert broken.damaged or "SHA-256" not in verdict.sentences[0]


def test_the_page_lists_the_catalogue() -> None:
    lines = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| ([12]) \| (checkpoint|model) \|$", PAGE.read_text(), re.MULTILINE
    )
    assert [(name, runtime) for name, runtime, *_ in lines] == [(broken.name, broken.runtime) for broken in ENTRIES]
    assert all(broken.says in said for broken, (_, _, said, _, _) in zip(ENTRIES, lines, strict=True))
