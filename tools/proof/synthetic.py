"""Layers with the outliers of a video diffusion transformer, made up: inputs by bucket of sigma, and weights.

Nothing here is measured on real weights. The layers imitate the structure that makes the inputs of Wan's linears hard
to quantize, each kind with the difficulty of its place in the block:

* behind a modulated norm (q, k, v and ffn.0): LN(h)·(1 + scale_t) + shift_t, with correlated channels, a few massive
  ones, one token in a hundred in which these are three times as large, and a modulation that changes with t;
* behind attention (o): tokens of very different size, a few hot channels in all of them;
* behind GELU (ffn.2): channels that are far below zero on most tokens and very large on a few.

Weights are Gaussian with a heavy-tailed and a low-rank part, smaller on hot channels, as training leaves them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_core.artifacts.stats import Tokens
from vq_core.sampling.schedule import BUCKETS

LATENT_SHARE = 4  # channels per hidden cause
COMMON = 0.75  # of a channel's variance, from causes that it shares with others
OUTLIER_TOKENS = 0.01
DRIFT = 1.5


@dataclass(frozen=True)
class Sizes:
    """How large a layer is and how many tokens are drawn; tokens are dealt out evenly over the buckets."""

    channels: int = 512
    hidden: int = 1024
    fit: int = 2048
    held_out: int = 512
    test: int = 1024


@dataclass(frozen=True)
class Draws:
    """Independent draws of one input.

    Attributes:
        fit, held_out: given to the methods.
        test: for measuring them.
        drifted: likewise, with a modulation 1.5 times as strong.
    """

    fit: Tokens
    held_out: Tokens
    test: Tokens
    drifted: Tokens

    def map(self, function: Callable[[Tensor], Tensor]) -> "Draws":
        """The draws of `function` of the rows, fp32, rounded to bf16 as the model hands them on."""

        def of(tokens: Tokens) -> Tokens:
            return replace(tokens, rows=function(tokens.rows.float()).bfloat16())

        return Draws(of(self.fit), of(self.held_out), of(self.test), of(self.drifted))


@dataclass(frozen=True)
class Layer:
    """The linears that read one input.

    Attributes:
        name: as in the tables.
        foldable: whether its input can be smoothed exactly.
        weights: of its linears, bf16 `[out_i, in]`.
    """

    name: str
    foldable: bool
    weights: tuple[Tensor, ...]
    draws: Draws


@dataclass(frozen=True)
class FeedForwardPair:
    """The two linears around GELU.

    Attributes:
        up: bf16 `[hidden, in]`, and `up_bias` `[hidden]`.
        down: bf16 `[out, hidden]`.
        draws: of what the first one reads.
    """

    up: Tensor
    up_bias: Tensor
    down: Tensor
    draws: Draws

    @property
    def down_layer(self) -> Layer:
        """The second linear alone, reading what full precision gives it."""
        up, bias = self.up.float(), self.up_bias.float()
        hidden = self.draws.map(lambda x: F.gelu(F.linear(x, up, bias), approximate="tanh"))
        return Layer("ffn.2 (GELU)", False, (self.down,), hidden)


def layers(seed: int, sizes: Sizes) -> list[Layer]:
    """The layers that have an exact fold: q, k, v hard and mild, ffn.0 and o."""
    draw = torch.Generator().manual_seed(seed)
    third = (sizes.channels // 2,) * 3
    qkv = _modulated(draw, sizes, massive=6, gain=20.0)
    mild = _modulated(draw, sizes, massive=2, gain=14.0)
    up = _modulated(draw, sizes, massive=6, gain=24.0)
    out = _attention_output(draw, sizes)
    return [
        _layer(draw, "q, k, v", qkv, third),
        _layer(draw, "q, k, v mild", mild, third),
        _layer(draw, "ffn.0", up, (sizes.hidden,)),
        _layer(draw, "o", out, (sizes.channels,)),
    ]


def feed_forward(seed: int, sizes: Sizes) -> FeedForwardPair:
    """A feed-forward: every fortieth hidden channel is spiky, off on 98 % of the tokens and large on the others."""
    draw = torch.Generator().manual_seed(seed + 1_000_000)
    inputs = _modulated(draw, sizes, massive=4, gain=20.0)
    x = inputs.fit.rows.float()
    up = _weight(draw, sizes.hidden, x)
    up = up / (x @ up.T).std(dim=0).unsqueeze(1)
    spiky = torch.randperm(sizes.hidden, generator=draw)[: sizes.hidden // 40]
    strength = torch.ones(sizes.hidden)
    strength[spiky] = 10 + 30 * torch.rand(len(spiky), generator=draw)
    bias = -0.3 + 0.3 * _randn(draw, sizes.hidden)
    bias[spiky] = -2.0 * strength[spiky]
    up = up * strength.unsqueeze(1)
    hidden = F.gelu(F.linear(x, up, bias), approximate="tanh")
    down = _weight(draw, sizes.channels, hidden)
    return FeedForwardPair(up.bfloat16(), bias.bfloat16(), down.bfloat16(), inputs)


def _layer(draw: torch.Generator, name: str, inputs: Draws, rows: tuple[int, ...]) -> Layer:
    x = inputs.fit.rows.float()
    return Layer(name, True, tuple(_weight(draw, count, x).bfloat16() for count in rows), inputs)


def _weight(draw: torch.Generator, rows: int, x: Tensor) -> Tensor:
    """`[rows, in]` for the inputs `x`: Gaussian, heavy-tailed and low-rank parts, smaller on hot channels."""
    channels = x.shape[1]
    degrees = 4
    chi_square = torch.stack([_randn(draw, rows, channels).square() for _ in range(degrees)]).mean(dim=0)
    heavy = _randn(draw, rows, channels) / chi_square.sqrt()
    rank = max(1, channels // 32)
    low_rank = _randn(draw, rows, rank) @ _randn(draw, rank, channels) / math.sqrt(rank)
    weight = (_randn(draw, rows, channels) + 0.4 * heavy + 0.5 * low_rank) / math.sqrt(channels)
    size = x.square().mean(dim=0).sqrt()
    heat = (size / size.median()).clamp(min=1)
    return weight * torch.exp(0.3 * _randn(draw, rows, 1)) / heat


def _modulated(draw: torch.Generator, sizes: Sizes, *, massive: int, gain: float) -> Draws:
    """Outputs of a modulated norm: LN(h)·(1 + scale_t) + shift_t."""
    channels = sizes.channels
    hot = torch.randperm(channels, generator=draw)[:massive]
    level = torch.zeros(channels)
    spread = torch.exp(0.5 * _randn(draw, channels))
    level[hot] = gain * torch.sign(_randn(draw, massive)) * (0.5 + torch.rand(massive, generator=draw))
    spread[hot] = 0.4 * level[hot].abs()
    mixing = _mixing(draw, channels)
    scale, shift = _by_bucket(draw, channels, 0.3), _by_bucket(draw, channels, 0.2)

    def rows(bucket: Tensor, drift: float) -> Tensor:
        h = _correlated(draw, len(bucket), mixing) * spread + level
        wild = torch.rand(len(bucket), 1, generator=draw) < OUTLIER_TOKENS
        factor = torch.ones(channels)
        factor[hot] = 3.0
        h = torch.where(wild, h * factor, h)
        return F.layer_norm(h, (channels,)) * (1 + drift * scale[bucket]) + drift * shift[bucket]

    return _draws(draw, sizes, rows)


def _attention_output(draw: torch.Generator, sizes: Sizes) -> Draws:
    """Outputs of attention: mixtures of values, smaller if they average more tokens, with a few hot channels."""
    channels = sizes.channels
    spread = torch.exp(0.4 * _randn(draw, channels))
    hot = torch.randperm(channels, generator=draw)[: max(1, channels // 64)]
    spread[hot] *= 5 + 10 * torch.rand(len(hot), generator=draw)
    mixing = _mixing(draw, channels)
    change = _by_bucket(draw, channels, 0.2)

    def rows(bucket: Tensor, drift: float) -> Tensor:
        gain = torch.exp(0.6 * _randn(draw, len(bucket), 1))
        return gain * _correlated(draw, len(bucket), mixing) * spread * (1 + drift * change[bucket])

    return _draws(draw, sizes, rows)


def _draws(draw: torch.Generator, sizes: Sizes, rows: Callable[[Tensor, float], Tensor]) -> Draws:
    def tokens(count: int, drift: float = 1.0) -> Tokens:
        bucket = torch.arange(count) % BUCKETS
        return Tokens(rows(bucket, drift).bfloat16(), torch.ones(count), bucket)

    return Draws(tokens(sizes.fit), tokens(sizes.held_out), tokens(sizes.test), tokens(sizes.test, DRIFT))


def _by_bucket(draw: torch.Generator, channels: int, strength: float) -> Tensor:
    """A modulation `[buckets, channels]`: a constant part, and one that turns smoothly with sigma."""
    angle = math.pi * torch.arange(BUCKETS).unsqueeze(1) / BUCKETS
    constant, even, odd = (_randn(draw, channels) for _ in range(3))
    return strength * (constant + torch.cos(angle) * even + torch.sin(angle) * odd) / math.sqrt(2)


def _mixing(draw: torch.Generator, channels: int) -> Tensor:
    """How hidden causes of falling weight show in the channels, `[causes, channels]`."""
    causes = channels // LATENT_SHARE
    weight = (1 + torch.arange(causes)).float().rsqrt()
    return weight.unsqueeze(1) * _randn(draw, causes, channels) / weight.norm()


def _correlated(draw: torch.Generator, count: int, mixing: Tensor) -> Tensor:
    """Tokens `[count, channels]` of unit variance, `COMMON` of it from hidden causes."""
    causes, channels = mixing.shape
    common = _randn(draw, count, causes) @ mixing
    return math.sqrt(COMMON) * common + math.sqrt(1 - COMMON) * _randn(draw, count, channels)


def _randn(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw)
