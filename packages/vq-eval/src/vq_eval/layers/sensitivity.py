"""End to end: the gain of keeping the worst linears or blocks in full precision."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio

from vq_core.artifacts.kept import exact_bias
from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.errors import VqError
from vq_core.files.tensor_file import load_tensors
from vq_core.runtime.progress import Advance
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.topology import Topology
from vq_eval.layers.schema import Gain, Ranking, Unit
from vq_eval.record import Record
from vq_eval.trajectories.latent_error import latent_error
from vq_eval.trajectories.watched_run import SeenStep, WatchedRun
from vq_eval.videos.fake_quant_linear import FakeQuantLinear, GainLinear

UNITS: dict[str, Unit] = {unit: unit for unit in get_args(Unit)}


@dataclass(frozen=True)
class SensitivityRequest:
    """How many of the worst `unit` to keep in full precision, one count after another, ascending from 1."""

    unit: Unit
    counts: tuple[int, ...]


@dataclass(frozen=True)
class LeftOut:
    """One stage of a sensitivity run.

    Attributes:
        count: how many units are in full precision in all.
        units: those that the stage before still quantizes, as `component.name`.
        linears: the linears of `units`, by component.
    """

    count: int
    units: tuple[str, ...]
    linears: Mapping[str, tuple[str, ...]]


class Outcome(Record):
    """One prompt at one stage."""

    latent_error: float
    latent_cosine: float
    psnr_db: float | None


def parse_counts(text: str) -> tuple[int, ...]:
    """The counts of `K` (each from 1 to K) or of a list such as `1,2,4,8`.

    Raises:
        VqError: it is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,6}", part) and int(part) > 0 for part in parts):
        raise VqError(f"`--sensitivity {text}` is neither a number nor a list: write 8 or 1,2,4,8.")
    counts = sorted({int(part) for part in parts})
    return tuple(range(1, counts[0] + 1)) if len(parts) == 1 else tuple(counts)


def parse_request(counts: str | None, unit: str) -> SensitivityRequest | None:
    """The request of `--sensitivity` and `--sensitivity-of`; None without the former.

    Raises:
        VqError: one of them has another value.
    """
    if unit not in UNITS:
        raise VqError(f"`--sensitivity-of {unit}` is not known: choose from {', '.join(UNITS)}.")
    return None if counts is None else SensitivityRequest(UNITS[unit], parse_counts(counts))


def stages_of(request: SensitivityRequest, ranking: Ranking, topologies: Mapping[str, Topology]) -> list[LeftOut]:
    """Stages in order; the first quantizes everything, and the next ones keep the worst by `ranking` in full precision.

    Raises:
        VqError: the model has fewer units.
    """
    order = ranking.linears if request.unit == "linears" else ranking.blocks
    if request.counts[-1] > len(order):
        raise VqError(
            f"`--sensitivity` asks for {request.counts[-1]} {request.unit} in full precision, and the model has "
            f"{len(order)}: ask for fewer."
        )
    stages = []
    before = 0
    for count in (0, *request.counts):
        units = order[before:count]
        linears = {
            component: tuple(
                linear.name
                for linear in topology.linears
                if any(f"{component}.{linear.name}.".startswith(f"{unit}.") for unit in units)
            )
            for component, topology in topologies.items()
        }
        stages.append(LeftOut(count, units, linears))
        before = count
    return stages


@torch.no_grad()
def restore(
    transformer: nn.Module,
    weights: SmoothedTransformer,
    qparams: QuantParams,
    component: str,
    linears: Sequence[str],
    device: str,
) -> None:
    """Replace each of the fake-quantized `linears` by its smoothed linear in full precision; some may be kept so."""
    kept = qparams.kept(component)
    for name in (linear for linear in linears if linear not in kept):
        simulated = transformer.get_submodule(name)
        if not isinstance(simulated, FakeQuantLinear):
            raise TypeError(f"{name} is not quantized")
        weight, bias = weights.linear(name, device), exact_bias(weights, qparams, component, name, device)
        # The linears outside the blocks are never quantized.
        dtype = transformer.get_parameter("proj_out.weight").dtype
        linear = nn.Linear(weight.shape[1], weight.shape[0], device=device, dtype=dtype)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
        linear.requires_grad_(requires_grad=False)
        gain = simulated.gain
        transformer.set_submodule(name, linear if gain is None else GainLinear(linear, gain))


def sample_exact(
    pipeline: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, advance: Advance
) -> dict[str, Tensor]:
    """The last `latent` of one prompt and its `frames`, uint8, on the host.

    Raises:
        VqError: a latent holds NaN or infinity.
    """
    latents: list[Tensor] = []

    def keep(step: int, seen: SeenStep) -> None:
        if not seen.latent.isfinite().all():
            raise VqError(f"The latent holds NaN or Inf at step {step}: check the artifact with vq-export verify.")
        latents[:] = [seen.latent]

    frames = pipeline.sample(conditions, sampling, seed, advance, WatchedRun(keep).watch)
    return {"latent": latents[0].cpu(), "frames": torch.from_numpy(frames)}


def outcome_of(
    pipeline: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, exact: Path, advance: Advance
) -> Outcome:
    """Sample one prompt and compare it with what `sample_exact` made of it, in the file `exact`.

    Raises:
        VqError: the latent holds NaN or infinity.
    """
    ours = sample_exact(pipeline, conditions, sampling, seed, advance)
    twin = load_tensors(exact, ours)
    error = latent_error(ours["latent"], twin["latent"])
    identical = torch.equal(ours["frames"], twin["frames"])
    psnr = peak_signal_noise_ratio(ours["frames"].double(), twin["frames"].double(), data_range=255.0)
    return Outcome(
        latent_error=error.relative_error, latent_cosine=error.cosine, psnr_db=None if identical else psnr.item()
    )


def gain_of(stage: LeftOut, outcomes: Sequence[Outcome]) -> Gain:
    """Means over prompts; an identical video has no finite PSNR and does not count in that mean."""
    finite = [outcome.psnr_db for outcome in outcomes if outcome.psnr_db is not None]
    return Gain(
        left_out=stage.count,
        added=stage.units,
        latent_error=fmean(outcome.latent_error for outcome in outcomes),
        latent_cosine=fmean(outcome.latent_cosine for outcome in outcomes),
        psnr_db=fmean(finite) if finite else None,
    )
