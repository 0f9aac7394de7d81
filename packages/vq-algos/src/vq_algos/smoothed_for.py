"""What weights were smoothed for: a target, and a scheme."""

from vq_algos.smoothing.smoothers import smoother_named
from vq_core.artifacts.weights import SmoothedWeights
from vq_core.errors import VqError
from vq_core.recipes.recipe import DEFAULTS


def target_of(weights: SmoothedWeights) -> str:
    """The target that `weights` were smoothed for."""
    return str(weights.artifact.manifest.settings.get("target", DEFAULTS.target))


def other_scheme(weights: SmoothedWeights, scheme: str) -> str | None:
    """The scheme that the smoother of `weights` optimized for, if that is not `scheme`; None where it tried none."""
    settings = weights.artifact.manifest.settings
    try:
        tries = "scheme" in smoother_named(str(settings.get("method"))).NEEDS
    except VqError:  # a smoother of a newer version, or of another package
        return None
    tried = settings.get("scheme")
    return str(tried) if tries and tried not in (None, scheme) else None


def warning_of(weights: SmoothedWeights, scheme: str) -> str | None:
    """A line for the summary where `weights` were smoothed for another scheme; else None."""
    other = other_scheme(weights, scheme)
    if other is None:
        return None
    method = weights.artifact.manifest.settings["method"]
    return f"smoothed for {other} by {method}, quantized to {scheme}: smooth with --scheme {scheme} for less error"
