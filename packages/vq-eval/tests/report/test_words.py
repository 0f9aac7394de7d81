import re
from pathlib import Path

import pytest

import vq_eval.report
from vq_eval.report.words import LANGUAGES, in_all_languages, say, with_code, words

FOLDER = Path(vq_eval.report.__file__).parent


def test_every_sentence_is_there_in_every_language_with_the_same_gaps() -> None:
    for key, pair in words().items():
        assert pair.keys() == LANGUAGES.keys(), key
        gaps = {language: set(re.findall(r"{(\w+)}", text)) for language, text in pair.items()}
        assert gaps["en"] == gaps["zh"], key


def test_every_sentence_is_said_somewhere_and_every_one_that_is_said_is_there() -> None:
    sources = [*FOLDER.glob("*.py"), *FOLDER.glob("templates/*.j2")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    said = set(re.findall(r"""["'@](\w+)["']""", text)) | set(re.findall(r'"@(\w+)"', text))
    said |= {f"plot_{word}" for word in said} | {f"plot_left_out_{unit}" for unit in ("linears", "blocks")}
    said |= {f"headline_{outcome}" for outcome in ("ship", "closest", "none")}
    said |= {f"mode_{mode}" for mode in ("wipe", "side", "difference", "all")}
    assert words().keys() - said == set()
    assert set(re.findall(r'say\("(\w+)"[,)]', text)) - words().keys() == set()


def test_a_sentence_holds_sentences() -> None:
    inner = say("with_interval", mean="1 dB", low="0.5", high="2")
    assert say("tied", gap=inner, rival="b").text("en") == "Not distinguishable from b: 1 dB (0.5 to 2) apart."


def test_html_is_escaped_and_shown_in_both_languages() -> None:
    html = in_all_languages(say("headline_ship", name="<b>`x`"))
    assert html == (
        '<span lang="en">Ship &lt;b&gt;<code>x</code></span><span lang="zh-Hans">可发布 &lt;b&gt;<code>x</code></span>'
    )


@pytest.mark.parametrize(("text", "html"), [("a `b` c", "a <code>b</code> c"), ("a ` c", "a ` c"), ("&", "&amp;")])
def test_what_stands_between_backticks_is_code(text: str, html: str) -> None:
    assert with_code(text) == html
