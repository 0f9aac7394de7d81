"""The encoders of Wan's pipelines as LightX2V's modules have them, one module each.

LightX2V builds its encoders in fixed sizes and loads them strictly: every name, and no other, with exactly these
shapes. Names are those of the files that the models' authors published ("native").
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch

from vq_export.encoders import clip, t5

Shape = tuple[int, ...]


class Encoder(Protocol):
    """What an encoder's module provides.

    Attributes:
        KEY: the beginning of its keys in LightX2V's run config.
        FOLDER: its folder in a diffusers pipeline.
        CLASS: its class in transformers.
        FILE: the name that LightX2V looks for, before the scheme.
        DTYPE: of every tensor that is not quantized.
        QUANTIZED: native names of the weights that LightX2V quantizes.
        LEFT_OUT: prefixes of native names that LightX2V does not load.
        FUNCTION: what LightX2V's module computes, by key of transformers' config.json.
        LIGHTX2V_SHAPES: every tensor of the encoder that LightX2V builds, by native name.
    """

    KEY: str
    FOLDER: str
    CLASS: str
    FILE: str
    DTYPE: torch.dtype
    QUANTIZED: re.Pattern[str]
    LEFT_OUT: tuple[str, ...]
    FUNCTION: Mapping[str, object]
    LIGHTX2V_SHAPES: Mapping[str, Shape]

    def shapes_of_config(self, config: Mapping[str, Any]) -> dict[str, Shape]:
        """Shapes by native name for transformers' `config`; KeyError where that lacks a key."""

    def shapes_of_tensors(self, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """The same for a native file that holds the tensors `found`; KeyError where it cannot be this encoder's."""

    def in_transformers(self, name: str) -> tuple[str, ...]:
        """The tensors of transformers whose rows make up the native tensor `name`; none for one that nothing reads."""

    def own_name(self, name: str) -> str | None:
        """One spelling for all that transformers' versions have written; None for what is not a weight."""


ENCODERS: Mapping[str, Encoder] = MappingProxyType({"t5": cast(Encoder, t5), "clip": cast(Encoder, clip)})
"""By key."""
