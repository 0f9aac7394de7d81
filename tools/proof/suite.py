"""Every method on every synthetic layer, in both schemes: figures on held-out tokens."""

import math
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from proof.figures import relative_error
from proof.methods import METHODS, Method
from proof.pair import PAIR_METHODS, PairMethod, pair_error
from proof.synthetic import FeedForwardPair, Layer, Sizes, feed_forward, layers
from vq_core.numerics.scheme import SCHEMES, QuantScheme

PAIR = "feed-forward"


@dataclass(frozen=True)
class Figure:
    """One method on one layer.

    Attributes:
        foldable: has the layer an exact fold?
        test_db, drifted_db: output SNR on test tokens, and where the modulation is half as strong again.
        held_out: noise over signal of each linear on the tokens that the methods judge by.
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
    alone = [*layers(seed, sizes), pair.down_layer]
    return [
        *(
            _figure(seed, layer, *item, scheme)
            for scheme in SCHEMES.values()
            for layer in alone
            for item in methods.items()
        ),
        *(_pair_figure(seed, pair, *item, scheme) for scheme in SCHEMES.values() for item in pair_methods.items()),
    ]


def measure(seeds: Sequence[int], sizes: Sizes) -> list[Figure]:
    """All seeds, as many at once as there are cores; threads are shared out before torch is loaded."""
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = min(len(seeds), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [figure for part in pool.map(partial(measure_seed, sizes=sizes), seeds) for figure in part]


def _figure(seed: int, layer: Layer, name: str, method: Method, scheme: QuantScheme) -> Figure:
    solved = method(layer, scheme)
    draws = layer.draws
    test, drifted, held_out = (
        relative_error(layer, tokens, solved, scheme) for tokens in (draws.test, draws.drifted, draws.held_out)
    )
    return Figure(
        seed,
        layer.name,
        layer.foldable,
        scheme.name,
        name,
        test.snr_db,
        drifted.snr_db,
        held_out.linears,
        held_out.buckets,
    )


def _pair_figure(seed: int, pair: FeedForwardPair, name: str, method: PairMethod, scheme: QuantScheme) -> Figure:
    solved = method(pair, scheme)
    draws = pair.draws
    test, drifted, held_out = (
        pair_error(pair, tokens, solved, scheme) for tokens in (draws.test, draws.drifted, draws.held_out)
    )
    test_db, drifted_db = (-10 * math.log10(whole) for whole, _ in (test, drifted))
    return Figure(seed, PAIR, False, scheme.name, name, test_db, drifted_db, (held_out[0],), (held_out[1],))
