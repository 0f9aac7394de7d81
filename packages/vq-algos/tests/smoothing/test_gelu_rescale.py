"""The approximate fold through GELU: where it pays, and that it is refused where it does not."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vq_algos.smoothing.gelu_rescale import FeedForward, feed_forward_errors, gelu, rescaling
from vq_algos.smoothing.smoothers.auto import passes
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import INT8

WIDTH, HIDDEN = 64, 128


def _feed_forward(spiky: int) -> FeedForward:
    """`spiky` hidden channels are silent but for one token in fifty, where they are forty times larger than others."""
    generator = torch.Generator().manual_seed(0)
    up = torch.randn(HIDDEN, WIDTH, generator=generator) / math.sqrt(WIDTH)
    down = torch.randn(WIDTH, HIDDEN, generator=generator)
    bias = torch.zeros(HIDDEN)
    hot = torch.randn(WIDTH, generator=generator)
    hot /= hot.norm()
    up -= (up @ hot).unsqueeze(1) * hot  # nobody else reads this direction
    up[:spiky] = 40 * hot
    bias[:spiky] = -20
    down[:, :spiky] *= 0.1
    parts = []
    for count in (512, 256):
        x = torch.randn(count, WIDTH, generator=generator)
        x -= (x @ hot).unsqueeze(1) * hot
        x += torch.where(torch.arange(count) % 50 == 7, 1.5, 0.0).unsqueeze(1) * hot
        parts.append(Tokens(x.bfloat16(), torch.ones(count), torch.arange(count) // 50 % 8))
    absmax = gelu(parts[0].rows.float() @ up.T + bias).abs().amax(dim=0)
    return FeedForward(up, bias, down, torch.ones(WIDTH), absmax, *parts, INT8)


def _snr_db(problem: FeedForward, s: torch.Tensor) -> float:
    errors = feed_forward_errors(problem, problem.held_out, [s])
    return -10 * math.log10(float(errors.objective[0]))


def test_it_wins_where_channels_are_large_and_rare() -> None:
    problem = _feed_forward(spiky=4)
    found = rescaling(problem)
    assert found.decision["smoother"] == "gelu_rescale"
    assert found.decision["channels"] == 4
    assert torch.all(found.s[:4] > 1)
    assert torch.all(found.s[4:] == 1)
    assert _snr_db(problem, found.s) > _snr_db(problem, torch.ones(HIDDEN)) + 1
    both = feed_forward_errors(problem, problem.held_out, [torch.ones(HIDDEN), found.s])
    assert bool(passes(both)[1])


def test_it_stays_away_where_nothing_is_to_be_won() -> None:
    assert torch.all(rescaling(_feed_forward(spiky=0)).s == 1)


def test_what_wins_on_fit_tokens_alone_is_refused() -> None:
    """The spikes are not there in the held-out prompts, where the approximation alone would show."""
    problem = _feed_forward(spiky=4)
    quiet = replace(problem.held_out, rows=(0.05 * problem.held_out.rows.float()).bfloat16())
    bias = problem.up_bias.clone()
    bias[:4] = 0.5  # now the rescaled channels are just where GELU bends
    calm = replace(problem, held_out=quiet, up_bias=bias, down=problem.down * torch.tensor([10.0] * 4 + [1.0] * 124))
    found = rescaling(calm)
    errors = feed_forward_errors(calm, quiet, [torch.ones(HIDDEN), found.s])
    assert bool(passes(errors)[1])


def test_errors_are_those_of_the_rescaled_feed_forward(int8_rows: Callable[[np.ndarray], np.ndarray]) -> None:
    problem = _feed_forward(spiky=4)
    s = torch.ones(HIDDEN)
    s[:4] = 8.0
    errors = feed_forward_errors(problem, problem.held_out, [s])

    def quantized(v: np.ndarray) -> np.ndarray:
        step = np.abs(v).max(axis=1, keepdims=True) / 127
        return np.round(v / step) * step

    def gelu64(y: np.ndarray) -> np.ndarray:
        return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))

    x, up, down = (t.double().numpy() for t in (problem.held_out.rows, problem.up, problem.down))
    bias, factor = problem.up_bias.double().numpy(), s.double().numpy()
    reference = gelu64(x @ up.T + bias) @ down.T
    hidden = gelu64(quantized(x) @ int8_rows(up / factor[:, None]).T + bias / factor)
    noise = np.square(reference - quantized(hidden) @ int8_rows(down * factor).T).sum()
    assert float(errors.noise.sum()) == pytest.approx(noise, rel=0.03)
    assert float(errors.signal.sum()) == pytest.approx(np.square(reference).sum(), rel=1e-4)
