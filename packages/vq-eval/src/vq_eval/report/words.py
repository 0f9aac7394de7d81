"""Sentences of the report in English and Chinese."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import yaml
from markupsafe import Markup, escape

LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""What HTML calls them."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of `words.yaml` with what is filled in; a value may be a sentence itself."""

    key: str
    values: Mapping[str, "str | Sentence"] = field(default_factory=dict)

    def text(self, language: str) -> str:
        """The sentence in one language."""
        filled = {
            name: value.text(language) if isinstance(value, Sentence) else value for name, value in self.values.items()
        }
        return words()[self.key][language].format(**filled)


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Every sentence by key and language."""
    text = files(__package__).joinpath("words.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, str]] = yaml.safe_load(text)
    return loaded


def say(key: str, **values: "str | Sentence") -> Sentence:
    """The sentence `key` with `values` filled in."""
    return Sentence(key, values)


def in_all_languages(sentence: Sentence) -> Markup:
    """The sentence as HTML, in every language; the style sheet shows the one that was chosen."""
    spans = (
        f'<span lang="{html_name}">{with_code(sentence.text(language))}</span>'
        for language, html_name in LANGUAGES.items()
    )
    return Markup("".join(spans))


def with_code(text: str) -> Markup:
    """`text` as HTML, with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
