"""Several quantized candidates of one model, each named, and each with the smoothed weights that it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import KIND as WEIGHTS_KIND
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.recipes.recipe import Recipe
from vq_core.remote.location import Location, NamedPath, parse_named
from vq_eval.record import ArtifactId
from vq_eval.videos.variants import apply_fake_quant

FLOOR = "floor"
"""Full precision once more, with another kernel: no candidate can be asked to come closer."""


@dataclass(frozen=True)
class NamedCandidate:
    """A candidate with its artifacts, opened, and the paths they were given by."""

    name: str
    weights: SmoothedWeights
    qparams: QuantParams
    weights_id: ArtifactId
    qparams_id: ArtifactId

    def apply(self, transformers: Mapping[str, nn.Module], device: str) -> None:
        """Turn `transformers`, in full precision or another candidate, into this candidate, in place."""
        for component, transformer in transformers.items():
            weights = self.weights.components[component]
            apply_fake_quant(transformer, weights, self.qparams, component, device)


def artifacts_of(
    weights: Sequence[Location] | None, qparams: Sequence[str] | None, recipe: Recipe
) -> tuple[list[Location], list[NamedPath]]:
    """Weights and named quant params: as `--weights` and `--qparams` say, else where the recipe has them.

    Raises:
        VqError: something said is no named path.
    """
    smoothed, quantized = recipe.path_of("smoothed-weights"), recipe.path_of("quant-params")
    said = [] if quantized is None else [NamedPath(quantized.name, quantized)]
    return (
        list(weights) if weights else [] if smoothed is None else [smoothed],
        [parse_named(text, "--qparams") for text in qparams] if qparams else said,
    )


def open_named(weights: Sequence[Location], qparams: Sequence[NamedPath]) -> list[NamedCandidate]:
    """The candidate of each of `qparams`, with the one of `weights` that it was made from, in their order.

    Raises:
        VqError: there are none; two have one name; an artifact is damaged; the weights of one are missing, or weights
            belong to none.
    """
    if not qparams:
        raise VqError("`--qparams` is missing: give what vq-algos quantize made, once for each candidate.")
    names = [named.name for named in qparams]
    for name in names:
        if names.count(name) > 1 or name == FLOOR:
            taken = "is the name of full precision's floor" if name == FLOOR else "is the name of two candidates"
            raise VqError(f"`{name}` {taken}: write --qparams NAME=PATH.")
    opened = {str(path): open_weights(path) for path in weights}
    by_digest = {smoothed.artifact.digest: path for path, smoothed in opened.items()}
    candidates = []
    for named in qparams:
        quantized = open_qparams(named.path)
        digest = quantized.artifact.manifest.parents.get(WEIGHTS_KIND, "")
        if digest not in by_digest:
            raise VqError(
                f"{named.path} was made from none of the weights given ({', '.join(opened) or 'none'}): "
                f"add --weights with those it was made from."
            )
        path = by_digest[digest]
        ids = ArtifactId(path=path, digest=digest), ArtifactId(path=str(named.path), digest=quantized.artifact.digest)
        candidates.append(NamedCandidate(named.name, opened[path], quantized, *ids))
    used = {candidate.weights_id.path for candidate in candidates}
    if idle := [path for path in opened if path not in used]:
        raise VqError(f"Nothing was quantized from {idle[0]}: leave it out, or give its --qparams.")
    return candidates
