"""What the options of the native engine come to, and what is none of their values."""

from typing import get_args

import pytest

from vq_core.errors import VqError
from vq_infer.attention import attention_names
from vq_infer.options import AttentionName, CacheChoice, EngineSettings, VideoOptions, engine_settings, parse_cache


def test_defaults_change_nothing() -> None:
    assert engine_settings(VideoOptions()) == EngineSettings(
        attention="sdpa", attention_tolerance=None, cache=None, offload="auto", vae_tiling=None
    )


def test_every_attention_can_be_asked_for() -> None:
    assert set(get_args(AttentionName)) == set(attention_names())


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (None, None),
        ("none", None),
        ("first-block", CacheChoice("first-block", 0.08)),
        ("first-block:0.2", CacheChoice("first-block", 0.2)),
        ("taylorseer", CacheChoice("taylorseer", 3)),
        ("taylorseer:5", CacheChoice("taylorseer", 5)),
    ],
)
def test_caches(text: str | None, choice: CacheChoice | None) -> None:
    assert parse_cache(text) == choice


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("teacache", "`teacache` is not a cache: choose none, first-block or taylorseer"),
        ("first-block:2", "a number between 0 and 1"),
        ("first-block:x", "a number between 0 and 1"),
        ("first-block:nan", "a number between 0 and 1"),
        ("taylorseer:2.5", "a whole number of steps, 2 or more"),
        ("taylorseer:1", "a whole number of steps, 2 or more"),
        ("taylorseer:inf", "a whole number of steps, 2 or more"),
    ],
)
def test_what_is_no_cache(text: str, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        parse_cache(text)


def test_a_tolerance_is_for_auto() -> None:
    assert engine_settings(VideoOptions(attention="auto", attention_tolerance=0.05)).attention_tolerance == 0.05
    with pytest.raises(VqError, match="--attention-tolerance is for --attention auto"):
        engine_settings(VideoOptions(attention="fp8", attention_tolerance=0.05))
