"""One entry of the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass

from broken_checkpoints.content import Content


@dataclass(frozen=True)
class Broken:
    """One way in which a checkpoint can be broken.

    Attributes:
        name: in the catalogue.
        runtime: how LightX2V reacts.
        says: a part of the sentence that verify must print, so that the right check has found it.
        edit: breaks a sound checkpoint.
        example: which of the sound checkpoints.
        damaged: the break happened after the manifest was written; else it is sealed again, as its writer would.
    """

    name: str
    runtime: str
    says: str
    edit: Callable[[Content], object]
    example: str = "int8"
    damaged: bool = False
