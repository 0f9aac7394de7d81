"""What may stand after `--lora`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest, parse_lora
from vq_core.remote.location import Uri


@pytest.mark.parametrize(
    ("text", "path", "strength", "component"),
    [
        ("a.safetensors", "a.safetensors", 1.0, None),
        ("folder/a.safetensors:0.8", "folder/a.safetensors", 0.8, None),
        ("a.safetensors:-1", "a.safetensors", -1.0, None),
        ("transformer_2=low.safetensors:.5", "low.safetensors", 0.5, "transformer_2"),
        ("transformer=/x/y=z.safetensors", "/x/y=z.safetensors", 1.0, "transformer"),
        ("./rank=8.safetensors", "./rank=8.safetensors", 1.0, None),
        ("c:final", "c:final", 1.0, None),
        ("a:b:2", "a:b", 2.0, None),
    ],
)
def test_what_is_typed(text: str, path: str, strength: float, component: str | None) -> None:
    assert parse_lora(text) == LoraRequest(Path(path), strength, component)


@pytest.mark.parametrize("text", ["s3://bucket/a.safetensors:0.8", "transformer_2=s3://bucket/a.safetensors:0.8"])
def test_a_uri_keeps_its_colon(text: str) -> None:
    request = parse_lora(text)
    assert (request.path, request.strength) == (Uri("s3", "bucket/a.safetensors"), 0.8)
    assert str(request) == text
    assert parse_lora("hf://me/lora").path == Uri("hf", "me/lora")


@given(
    st.from_regex(r"[a-z]{1,8}\.safetensors", fullmatch=True),
    st.integers(-400, 400).filter(bool).map(lambda hundredths: hundredths / 100),
    st.sampled_from([None, "transformer", "transformer_2"]),
)
def test_a_request_prints_as_it_is_typed(path: str, strength: float, component: str | None) -> None:
    request = LoraRequest(Path(path), strength, component)
    assert parse_lora(str(request)) == request


@pytest.mark.parametrize("text", ["", ":0.5", "transformer=", "transformer=:1"])
def test_without_a_file_it_is_refused(text: str) -> None:
    with pytest.raises(VqError, match="names no file"):
        parse_lora(text)


@pytest.mark.parametrize("strength", ["0", "nan", "inf", "-0.0"])
def test_a_strength_is_a_number_that_does_something(strength: str) -> None:
    with pytest.raises(VqError, match="must be a number other than 0"):
        parse_lora(f"a.safetensors:{strength}")
