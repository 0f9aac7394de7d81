"""What weights were smoothed for: a target, and a scheme."""

from vq_algos.smoothing.smoothers import smoother_named
from vq_core.artifacts.weights import SmoothedWeights
from vq_core.errors import VqError
from vq_core.numerics.scheme import schemes_named
from vq_core.recipes.recipe import DEFAULTS


def target_of(weights: SmoothedWeights) -> str:
    """The target that `weights` were smoothed for."""
    return str(weights.artifact.manifest.settings.get("target", DEFAULTS.target))


def other_scheme(weights: SmoothedWeights, scheme: str) -> str | None:
    """The scheme that the smoother of `weights` optimized for, if tokens are quantized otherwise in `scheme`.

    None where it tried none. How many bits a weight has hardly changes what smoothing is best.
    """
    settings = weights.artifact.manifest.settings
    try:
        tries = "scheme" in smoother_named(str(settings.get("method"))).NEEDS
    except VqError:  # a smoother of a newer version, or of another package
        return None
    tried = settings.get("scheme")
    if not tries or tried is None:
        return None
    first, *_ = schemes_named(str(tried))
    return None if first.activation in {one.activation for one in schemes_named(scheme)} else str(tried)


def warning_of(weights: SmoothedWeights, scheme: str) -> str | None:
    """A line for the summary where `weights` were smoothed for another scheme; else None."""
    other = other_scheme(weights, scheme)
    if other is None:
        return None
    method = weights.artifact.manifest.settings["method"]
    return f"smoothed for {other} by {method}, quantized to {scheme}: smooth with --scheme {scheme} for less error"
