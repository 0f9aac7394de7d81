"""The optimum of an analytic noise model: one s per channel, found by gradient descent without matrix products.

Per-token quantization of x/s with a uniform step adds noise of variance (max_k |x_tk|/s_k)²/(12·qmax²) to every
channel, and per-channel quantization of W·s adds (max_k |W_rk| s_k)²/(12·qmax²) to every weight of row r. If they are
uncorrelated, the noise of the output is, up to the factor 1/(12·qmax²),

    J(s) = mean_t (max_k |x_tk|/s_k)² · Σ_k s_k² ‖W_k‖²  +  Σ_r (max_k |W_rk| s_k)² · Σ_k E[x_k²] / s_k²,

for each linear in units of its output's own energy, summed over the linears. Adam minimises J over log s, with a p-norm
for the maximum, whose gradient reaches more than one channel. J does not change when s is scaled.
"""

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from vq_algos.smoothing.smoothers.smoothquant import column_absmax, dead_channels, migration
from vq_algos.smoothing.smoothing_problem import SmootherOptions, Smoothing, SmoothingProblem
from vq_core.artifacts.stats import Tokens

NEEDS = frozenset({"statistics", "tokens"})

STEPS = 60
LEARNING_RATE, BETAS, EPSILON = 0.1, (0.9, 0.999), 1e-8
P = 12.0
TOKENS = 512  # enough for a mean: four times as many tokens and rows gain 0.04 dB on wan-tiny-hard
ROWS, MIN_ROWS = 1024, 32  # evenly spread rows of all weights together, and at least of each weight
TINY = 1e-30  # replaces zero where a logarithm is taken


def smoothing(problem: SmoothingProblem, options: SmootherOptions) -> Smoothing:
    """The s `[in]` that minimises J on the fit tokens, starting from SmoothQuant's with α = 1/2."""
    assert problem.fit is not None
    columns = column_absmax(problem.weights)
    return optimum(problem, migration(problem.absmax, columns, 0.5), dead_channels(problem.absmax, columns))


def optimum(problem: SmoothingProblem, start: Tensor, dead: Tensor) -> Smoothing:
    """The minimum near `start` `[in]`; `dead` channels (bool `[in]`) keep s = 1."""
    assert problem.fit is not None
    s = torch.ones_like(start)
    if bool(dead.all()):
        return Smoothing(s)
    alive = ~dead
    model = NoiseModel(problem.fit, problem.weights, alive)
    found = descend(model, start[alive].log())
    s[alive] = torch.exp(found - found.mean())
    return Smoothing(s)


def descend(objective: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Take `STEPS` steps of Adam (Kingma and Ba, 2015, arXiv 1412.6980) from `start`, the rate a falling cosine.

    Written out because torch's Adam imports torch's compiler, which takes longer than the descent.
    """
    x, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(STEPS):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(x), x)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * square + (1 - BETAS[1]) * gradient.square()
        rate = LEARNING_RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        size = (square / (1 - BETAS[1] ** (step + 1))).sqrt() + EPSILON
        x = x.detach() - rate * mean / (1 - BETAS[0] ** (step + 1)) / size
    return x


class NoiseModel:
    """J of log s of the `alive` channels (bool `[in]`); what does not depend on s is computed once."""

    def __init__(self, tokens: Tokens, weights: Collection[Tensor], alive: Tensor) -> None:
        keep = _spread(len(tokens.rows), TOKENS, tokens.rows.device)
        x = tokens.rows[keep][:, alive].float().abs()
        self._weight = (tokens.weight[keep] / tokens.weight[keep].sum()).double()
        self._log_x = x.clamp(min=TINY).log()
        self._second_moment = self._weight @ x.double().square()
        rows = max(MIN_ROWS, ROWS // len(weights))
        self._linears = [_Linear(weight[:, alive], rows, self._second_moment) for weight in weights]

    def __call__(self, log_s: Tensor) -> Tensor:
        """J, a scalar; fp64 where squares are taken, because activations may be large and weights small."""
        token_noise = self._weight @ _largest_square(self._log_x - log_s)
        second_moment = (self._second_moment * torch.exp(-2 * log_s.double())).sum()
        return torch.stack([linear.noise(log_s, token_noise, second_moment) for linear in self._linears]).sum()


class _Linear:
    """What the model knows of one weight `[out, alive]`, from `sample` of its rows and all its columns."""

    def __init__(self, weight: Tensor, sample: int, second_moment: Tensor) -> None:
        w = weight.float()
        self._rows = len(w)
        self._log_rows = w[_spread(len(w), sample, w.device)].abs().clamp(min=TINY).log()
        # A few rows at a time, because a whole fp64 weight would take more memory than all else here.
        self._column_energy = torch.stack([part.double().square().sum(dim=0) for part in w.split(ROWS)]).sum(dim=0)
        # Energy of the output if its inputs were uncorrelated, which is only a scale that makes linears comparable.
        self._energy = (second_moment @ self._column_energy).clamp(min=TINY)

    def noise(self, log_s: Tensor, token_noise: Tensor, second_moment: Tensor) -> Tensor:
        """This linear's share of J."""
        activations = token_noise * (self._column_energy @ torch.exp(2 * log_s.double()))
        rounding = self._rows * _largest_square(self._log_rows + log_s).mean() * second_moment
        return (activations + rounding) / self._energy


def _largest_square(log_x: Tensor) -> Tensor:
    """(max_k |x_k|)² of every row by the p-norm, from logarithms `[rows, in]` → fp64 `[rows]`."""
    return (torch.logsumexp(P * log_x, dim=1).double() * (2 / P)).exp()


def _spread(count: int, wanted: int, device: torch.device) -> Tensor:
    """At most `wanted` of `count` indices, evenly spread."""
    if count <= wanted:
        return torch.arange(count, device=device)
    return torch.arange(wanted, device=device) * count // wanted
