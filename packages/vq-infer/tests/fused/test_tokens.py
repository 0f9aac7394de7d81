import torch

from vq_core.numerics.quantize import quantize_tokens
from vq_core.numerics.scheme import NumberFormat
from vq_infer.fused.tokens import tokens_of


def test_codes_or_without_a_format_the_values() -> None:
    x, gain = torch.randn(2, 3, 16), torch.rand(16)
    assert tokens_of(x, None) is x
    found, expected = (
        tokens_of(x, NumberFormat.INT8, gain, 4),
        quantize_tokens(x, NumberFormat.INT8, gain, 4),
    )
    assert torch.equal(found.codes, expected.codes)
    assert found.rotation == expected.rotation == 4
