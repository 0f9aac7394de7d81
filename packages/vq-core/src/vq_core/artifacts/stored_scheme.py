"""The scheme of a linear, which its tensors tell where the linears of an artifact have different ones."""

from vq_core.numerics.grouped import GROUP
from vq_core.numerics.scheme import FP8, INT8, SCHEMES, QuantScheme
from vq_core.store.manifest import TensorEntry

BY_DTYPE = {"I8": INT8, "F8_E4M3": FP8}
"""Schemes of 8 bits, by safetensors' name of the codes' dtype."""


def stored_scheme(codes: TensorEntry, group_scale: TensorEntry | None) -> QuantScheme | None:
    """The scheme of the linear with these tensors, the second one only where it has groups; None for none that is."""
    if group_scale is None:
        return BY_DTYPE.get(codes.dtype)
    bits = 8 * codes.shape[-1] / (group_scale.shape[-1] * GROUP)
    return next((scheme for scheme in SCHEMES.values() if scheme.grouped and scheme.bits == bits), None)
