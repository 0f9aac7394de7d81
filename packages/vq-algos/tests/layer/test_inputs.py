"""The inputs that algorithms are solved from are those of the runtime: the gain first, then one scale per token."""

import numpy as np
import torch

from vq_algos.layer.inputs import sampled
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import NumberFormat


def test_tokens_are_smoothed_and_quantized_per_token() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randn(6, 8, generator=generator) * torch.logspace(-1, 1, 6).unsqueeze(1)).bfloat16()
    gain = torch.rand(8, generator=generator) + 0.5
    tokens = Tokens(rows, torch.linspace(0.5, 1.5, 6), torch.arange(6))
    inputs = sampled(tokens, gain, NumberFormat.INT8)

    x = rows.double().numpy() * gain.double().numpy()
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(inputs.x.double().numpy(), x, rtol=1e-6)
    np.testing.assert_allclose(inputs.x_hat.double().numpy(), np.round(x / step) * step, rtol=1e-5)
    assert torch.equal(inputs.weight, tokens.weight)
    assert torch.equal(inputs.bucket, tokens.bucket)
