"""Every method on every synthetic layer, in every scheme: figures on held-out tokens."""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from proof.figures import Relative, relative_error
from proof.methods import GROUPED_METHODS, METHODS, Method
from proof.pair import PAIR_METHODS, PairMethod, pair_error
from proof.synthetic import Draws, Sizes, feed_forward, layers
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.scheme import SCHEMES, W8A8, QuantScheme

PAIR = "feed-forward"


@dataclass(frozen=True)
class Figure:
    """One method on one layer.

    Attributes:
        foldable: whether the layer has an exact fold.
        test_db, drifted_db: output SNR on test tokens, and on those with a modulation 1.5 times as strong.
        held_out: noise over signal of each linear on the held-out tokens.
        held_out_buckets: likewise, by bucket of sigma.
    """

    seed: int
    layer: str
    foldable: bool
    scheme: str
    method: str
    test_db: float
    drifted_db: float
    held_out: tuple[float, ...]
    held_out_buckets: tuple[tuple[float, ...], ...]


def measure_seed(
    seed: int,
    sizes: Sizes,
    methods: Mapping[str, Method] = METHODS,
    pair_methods: Mapping[str, PairMethod] = PAIR_METHODS,
) -> list[Figure]:
    """All methods on the layers of one seed."""
    pair = feed_forward(seed, sizes)
    figures = []
    for scheme in SCHEMES.values():
        chosen = {name: methods[name] for name in GROUPED_METHODS if name in methods} if scheme.grouped else methods
        for layer in (*layers(seed, sizes), pair.down_layer):
            for name, method in chosen.items():
                error = partial(relative_error, layer, solved=method(layer, scheme), scheme=scheme)
                figures.append(_figure(seed, layer.name, layer.foldable, scheme, name, layer.draws, error))
    for scheme in W8A8:
        for name, pair_method in pair_methods.items():
            error = partial(pair_error, pair, solved=pair_method(pair, scheme), scheme=scheme)
            figures.append(_figure(seed, PAIR, False, scheme, name, pair.draws, error))
    return figures


def measure(seeds: Sequence[int], sizes: Sizes) -> list[Figure]:
    """All seeds, as many at once as there are cores; threads are shared out before torch is loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = min(len(seeds), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [figure for part in pool.map(partial(measure_seed, sizes=sizes), seeds) for figure in part]


def _figure(
    seed: int,
    layer: str,
    foldable: bool,
    scheme: QuantScheme,
    method: str,
    draws: Draws,
    error: Callable[[Tokens], Relative],
) -> Figure:
    test, drifted, held_out = map(error, (draws.test, draws.drifted, draws.held_out))
    decibels = (test.snr_db, drifted.snr_db)
    return Figure(seed, layer, foldable, scheme.name, method, *decibels, held_out.linears, held_out.buckets)
