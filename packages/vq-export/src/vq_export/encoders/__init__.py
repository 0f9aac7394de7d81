"""The encoders of Wan's pipelines as LightX2V's modules have them, one module each.

LightX2V builds its encoders in fixed sizes and loads them strictly: every name, and no other, with exactly these
shapes. Names are those of the files that the models' authors published ("native").
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch

from vq_export.encoders import clip, t5

Shape = tuple[int, ...]


class Encoder(Protocol):
    """What an encoder's module provides."""

    KEY: str
    """What its keys in LightX2V's run config begin with."""

    FOLDER: str
    """Its folder in a diffusers pipeline."""

    CLASS: str
    """Its class in transformers."""

    FILE: str
    """The name that LightX2V looks for, before the scheme."""

    DTYPE: torch.dtype
    """Of every tensor that is not quantized."""

    def shapes_of_config(self, config: Mapping[str, Any], where: object) -> dict[str, Shape]:
        """Every tensor that the encoder of transformers' `config` has in LightX2V, by native name."""

    def shapes_of_tensors(self, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """The same for the encoder whose native file holds the tensors `found`; KeyError where it cannot be one."""

    def lightx2v_shapes(self) -> dict[str, Shape]:
        """The same for the encoder that LightX2V builds."""

    def is_quantized(self, name: str) -> bool:
        """Is the native tensor `name` the weight of a linear that LightX2V quantizes?"""

    def is_left_out(self, name: str) -> bool:
        """Does LightX2V not load the native tensor `name`?"""

    def in_transformers(self, name: str) -> tuple[str, ...]:
        """The tensors of transformers whose rows make up the native tensor `name`; none for one that nothing reads."""

    def own_name(self, name: str) -> str | None:
        """One spelling for all that transformers' versions have written; None for what is not a weight."""


ENCODERS: Mapping[str, Encoder] = MappingProxyType({"t5": cast(Encoder, t5), "clip": cast(Encoder, clip)})
"""By key."""
