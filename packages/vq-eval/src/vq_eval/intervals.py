"""Bootstrap intervals of means."""

from collections.abc import Sequence

SEED = 0
RESAMPLES = 9999
CONFIDENCE = 0.95


def mean_interval(figures: Sequence[float]) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean of `figures`; None for fewer than two."""
    import numpy as np
    from scipy.stats import bootstrap

    if len(figures) < 2:
        return None
    found = bootstrap(
        (np.asarray(figures),), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
