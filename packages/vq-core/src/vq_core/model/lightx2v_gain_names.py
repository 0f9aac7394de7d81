"""How LLMC and LightX2V spell the gain of a modulated norm: twice, as weight and bias of an "affine norm".

    LN(x) · (1 + scale) · affine_norm.weight + shift · affine_norm.bias

`blocks.N.affine_norm1` stands before self-attention and `blocks.N.affine_norm3` before the feed-forward.
"""

import re

STEMS = {"norm1.gain": "affine_norm1", "norm3.gain": "affine_norm3"}
PARTS = ("weight", "bias")
_TENSOR = re.compile(r"(?P<block>\w*blocks\.\d+)\.(?P<stem>affine_norm[13])\.(?P<part>weight|bias)")


def affine_norm(gain: str) -> tuple[str, ...]:
    """The tensors that hold `gain`, such as `blocks.0.norm1.gain`."""
    block, norm = re.fullmatch(r"(.+)\.(\w+\.gain)", gain).groups()  # type: ignore[union-attr]
    return tuple(f"{block}.{STEMS[norm]}.{part}" for part in PARTS)


def is_affine_norm(tensor: str) -> bool:
    """Does `tensor` hold a gain?"""
    return _TENSOR.fullmatch(tensor) is not None
