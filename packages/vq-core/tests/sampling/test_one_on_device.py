"""Transformers that take turns, alone and in the pipeline."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from vq_core.sampling.one_on_device import OneOnDevice
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant

SAMPLING = Sampling(steps=4, height=64, width=64, num_frames=5)

TinyModel = Callable[[Variant], Path]


def test_only_one_is_there() -> None:
    alive: dict[str, weakref.ref[nn.Module]] = {}

    def load(name: str) -> nn.Module:
        assert all(seen() is None for seen in alive.values())
        model = nn.Linear(2, 2)
        alive[name] = weakref.ref(model)
        return model

    turns = OneOnDevice(load)
    turns.release()
    assert isinstance(turns.get("a"), nn.Linear)
    assert turns.get("a") is turns.get("a")
    turns.get("b")
    turns.release()
    assert list(alive) == ["a", "b"]
    assert all(seen() is None for seen in alive.values())


@pytest.mark.parametrize("variant", ["i2v-2.2", "vace"])
def test_the_video_is_the_same_and_each_is_loaded_once(
    tiny_model: TinyModel, samples: list[Sample], variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import AutoencoderKLWan

    model = str(tiny_model(variant))
    plain = VideoPipeline(model, "cpu")
    (conditions,) = plain.encode(samples[:1], SAMPLING)
    expected = plain.sample(conditions, SAMPLING, seed=1)

    own = VideoPipeline(model, "cpu")
    loaded: list[str] = []
    alive: list[weakref.ref[nn.Module]] = []
    decode: Any = AutoencoderKLWan.decode

    def load(name: str) -> nn.Module:
        assert all(seen() is None for seen in alive)
        loaded.append(name)
        transformer = own._load_own_transformer(name)
        alive.append(weakref.ref(transformer))
        return transformer

    def decode_alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert all(seen() is None for seen in alive)
        return decode(self, *args, **kwargs)

    in_turns = VideoPipeline(model, "cpu", load, in_turns=True)
    (conditions,) = in_turns.encode(samples[:1], SAMPLING)
    monkeypatch.setattr(AutoencoderKLWan, "decode", decode_alone)
    assert np.array_equal(in_turns.sample(conditions, SAMPLING, seed=1), expected)
    names = ["transformer", "transformer_2"] if variant == "i2v-2.2" else ["transformer"]
    assert loaded == names
    in_turns.denoise(conditions, SAMPLING, seed=1)
    assert loaded == names * 2
