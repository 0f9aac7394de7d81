"""Tensors tell the scheme of their linear."""

import pytest

from vq_core.artifacts.stored_scheme import stored_scheme
from vq_core.numerics.scheme import FP8, INT8, W4A8, W6A8, QuantScheme
from vq_core.store.manifest import TensorEntry


def _entry(dtype: str, *shape: int) -> TensorEntry:
    return TensorEntry(file="f", dtype=dtype, shape=list(shape))


@pytest.mark.parametrize(
    ("codes", "groups", "expected"),
    [
        (_entry("I8", 3, 64), None, INT8),
        (_entry("F8_E4M3", 3, 64), None, FP8),
        (_entry("I8", 3, 32), _entry("F8_E4M3", 3, 4), W4A8),
        (_entry("I8", 3, 48), _entry("F8_E4M3", 3, 4), W6A8),
        (_entry("I8", 3, 40), _entry("F8_E4M3", 3, 4), None),
        (_entry("F32", 3, 64), None, None),
    ],
)
def test_scheme(codes: TensorEntry, groups: TensorEntry | None, expected: QuantScheme | None) -> None:
    assert stored_scheme(codes, groups) is expected
