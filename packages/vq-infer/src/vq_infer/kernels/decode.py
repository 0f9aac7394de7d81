"""Weights of 4 and 6 bits as the INT8 codes that are multiplied, made anew for every product.

So a GPU holds the packed codes alone, and one decoded weight at a time. Decoding inside the product would repeat the
work for every tile of tokens.
"""

import importlib.util

from vq_core.numerics.grouped import Packed, unpack
from vq_core.numerics.quantize import Quantized


def decode(packed: Packed) -> Quantized:
    """The INT8 codes `[out, in]` of `packed`."""
    if packed.codes.device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return unpack(packed)
    from vq_infer.kernels.decode_triton import decode as decode_in_triton

    return decode_in_triton(packed)
