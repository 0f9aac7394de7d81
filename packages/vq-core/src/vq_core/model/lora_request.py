"""A LoRA as users ask for it: a file or folder, its strength, and the transformer that it is for."""

import math
import re
from dataclasses import dataclass

from vq_core.errors import VqError
from vq_core.remote.location import Location, parse_location


@dataclass(frozen=True)
class LoraRequest:
    """A LoRA to be merged, W + strength · ΔW.

    Attributes:
        path: a safetensors file, or a folder with one or several; here or at a URI.
        strength: factor of every difference.
        component: the transformer it is for, `transformer` or `transformer_2`; None for every one.
    """

    path: Location
    strength: float = 1.0
    component: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength) or self.strength == 0:
            raise VqError(
                f"The strength of {self.path} is {self.strength}, and must be a number other than 0: "
                "give another, or leave the LoRA out."
            )

    def __str__(self) -> str:
        """As it is typed after `--lora`."""
        component = f"{self.component}=" if self.component else ""
        strength = "" if self.strength == 1 else f":{self.strength:g}"
        return f"{component}{self.path}{strength}"


def parse_lora(text: str) -> LoraRequest:
    """The request `[COMPONENT=]FILE[:STRENGTH]`.

    What follows the last colon is a strength if it is a number; `./a=b.safetensors` is a file with an equals sign.

    Raises:
        VqError: no file, or a strength that is 0 or no finite number.
    """
    component, rest = None, text
    if match := re.fullmatch(r"([A-Za-z]\w*)=(.*)", text):
        component, rest = match[1], match[2]
    path, colon, strength = rest.rpartition(":")
    if not colon or not _is_number(strength):
        path, strength = rest, "1"
    if not path:
        raise VqError(f"`--lora {text}` names no file: give [COMPONENT=]FILE[:STRENGTH].")
    return LoraRequest(parse_location(path), float(strength), component)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
