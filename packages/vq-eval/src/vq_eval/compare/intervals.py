"""95 % bootstrap intervals of means over videos."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap

LEVEL = 0.95
RESAMPLES = 9999
SEED = 0


def mean_interval(figures: Sequence[float]) -> tuple[float, float] | None:
    """Low and high end of the percentile interval of the mean (Efron, Annals of Statistics 1979); None for one figure.

    Resampling draws videos, never frames, because the frames of one video fail together. The draws are seeded, so equal
    figures give equal intervals.
    """
    if len(figures) < 2:
        return None
    drawn = bootstrap(
        (np.asarray(figures, np.float64),),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
