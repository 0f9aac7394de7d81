"""Texts and images against the stock diffusers pipeline with all of its parts loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor
from transformers import AutoTokenizer

from vq_core.errors import VqError
from vq_core.media.images import open_image
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.condition_encoding import TEXT_TOKENS, encode_images, encode_texts
from vq_core.sampling.prompts import Sample
from vq_core.testing.tiny_models import VARIANTS, Variant

TinyModel = Callable[[Variant], Path]


def stock(model: Path) -> Any:
    with silenced_libraries():
        return DiffusionPipeline.from_pretrained(model)


def texts(model: Path, samples: list[Sample], *, guided: bool = True) -> list[tuple[Tensor, Tensor | None]]:
    return encode_texts(model, samples, guided=guided, device="cpu", dtype=torch.float32)


def only(model: Path, folder: Path, *parts: str) -> Path:
    """A model folder with nothing but `parts` of `model`."""
    for part in parts:
        shutil.copytree(model / part, folder / part)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()  # as diffusers' own call encodes
def test_texts_are_those_of_the_stock_pipeline(tiny_model: TinyModel, samples: list[Sample], variant: Variant) -> None:
    pipeline = stock(tiny_model(variant))
    embeds = texts(tiny_model(variant), samples)
    assert len(embeds) == 2
    for sample, ours in zip(samples, embeds, strict=True):
        expected = pipeline.encode_prompt(sample.prompt, sample.negative_prompt, max_sequence_length=512)
        for tensor, stock_tensor in zip(ours, expected, strict=True):
            assert tensor is not None
            assert (tensor.shape, tensor.dtype, tensor.device.type) == ((1, 512, 32), torch.float32, "cpu")
            assert torch.equal(tensor, stock_tensor)
    assert not torch.equal(embeds[0][0], embeds[1][0])


def test_without_guidance_only_the_prompt_is_encoded(tiny_model: TinyModel, samples: list[Sample]) -> None:
    for (alone, nothing), (guided, negative) in zip(
        texts(tiny_model("t2v"), samples, guided=False), texts(tiny_model("t2v"), samples), strict=True
    ):
        assert nothing is None
        assert negative is not None
        assert torch.equal(alone, guided)


def test_text_is_followed_by_zeros(tiny_model: TinyModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("t2v") / "tokenizer")
    sample = Sample("a red kite over the dunes", "blurred")
    ((positive, negative),) = texts(tiny_model("t2v"), [sample])
    assert negative is not None
    for text, embeds in ((sample.prompt, positive), (sample.negative_prompt, negative)):
        length = len(tokenizer(text).input_ids)
        assert embeds[0, :length].abs().sum(dim=-1).min() > 0
        assert not embeds[0, length:].any()


def test_a_long_text_is_cut(tiny_model: TinyModel) -> None:
    ((embeds, _),) = texts(tiny_model("t2v"), [Sample("kite " * (TEXT_TOKENS + 100))])
    assert embeds.shape == (1, TEXT_TOKENS, 32)
    assert embeds[0, -1].any()


def test_texts_have_the_dtype_that_was_asked_for(tiny_model: TinyModel, samples: list[Sample]) -> None:
    half = encode_texts(tiny_model("t2v"), samples, guided=True, device="cpu", dtype=torch.bfloat16)
    for ours, full in zip(half, texts(tiny_model("t2v"), samples), strict=True):
        for tensor, exact in zip(ours, full, strict=True):
            assert tensor is not None
            assert exact is not None
            assert tensor.dtype == torch.bfloat16
            assert float((tensor.float() - exact).norm() / exact.norm()) < 0.05


def test_images_are_those_of_the_stock_pipeline(tiny_model: TinyModel, samples: list[Sample]) -> None:
    images = [open_image(sample.image) for sample in samples if sample.image]
    pipeline = stock(tiny_model("i2v"))
    three = [images[:1], images[1:], images]
    first, second, together = encode_images(tiny_model("i2v"), [*samples, samples[0]], three, device="cpu")
    assert torch.equal(together, pipeline.encode_image(images))
    assert together.shape == (2, 17, 48)
    embeds = (first, second)
    for image, ours in zip(images, embeds, strict=True):
        assert (ours.shape, ours.dtype, ours.device.type) == ((1, 17, 48), torch.float32, "cpu")
        assert torch.equal(ours, pipeline.encode_image(image))
    assert not torch.equal(*embeds)


def test_nothing_but_the_encoder_s_own_parts_is_read(
    tiny_model: TinyModel, samples: list[Sample], tmp_path: Path
) -> None:
    assert samples[0].image is not None
    model = tiny_model("i2v")
    assert len(texts(only(model, tmp_path / "text", "tokenizer", "text_encoder"), samples)) == 2
    folder = only(model, tmp_path / "image", "image_processor", "image_encoder")
    assert len(encode_images(folder, samples[:1], [[open_image(samples[0].image)]], device="cpu")) == 1


def test_a_processor_that_fails_on_a_good_image_is_named(
    tiny_model: TinyModel, samples: list[Sample], tmp_path: Path
) -> None:
    assert samples[0].image is not None
    model = only(tiny_model("i2v"), tmp_path, "image_processor", "image_encoder")
    path = model / "image_processor" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.5, 0.5]}))
    with pytest.raises(VqError, match=r"image_processor cannot be used \(mean must have 3 elements"):
        encode_images(model, samples[:1], [[open_image(samples[0].image)]], device="cpu")


@pytest.mark.parametrize(
    ("pad_token", "sentence"),
    [(None, "tokenizer has no `pad_token`"), ("<new>", r"tokenizer has \d+ tokens, and the")],
)
def test_refuses_a_tokenizer_of_another_model(
    tiny_model: TinyModel, samples: list[Sample], tmp_path: Path, pad_token: str | None, sentence: str
) -> None:
    model = only(tiny_model("t2v"), tmp_path, "tokenizer", "text_encoder")
    config = model / "tokenizer" / "tokenizer_config.json"
    said = json.loads(config.read_text()) | {"pad_token": pad_token}
    config.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
    with pytest.raises(VqError, match=sentence):
        texts(model, samples)
