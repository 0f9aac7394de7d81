"""The up-rows of `wan-tiny-harder`'s massive hidden units: each fires for the tokens of one cluster of its inputs.

The inputs of every feed-forward's first linear are whitened on their first principal components and divided into
clusters by spherical k-means, one for each pair of units. A unit's row is a linear fit: about 1 on its own cluster,
below 0 on the others, by least squares with targets that are moved wherever the fit is already good enough. Rows are
then scaled so that the largest unit of a token has a median of `PEAK`.

From the root, for a few minutes on a CPU:

    PYTHONPATH=tools uv run python -m wan_tiny.training.massive_units
"""

from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import gelu, one_hot

from vq_core.files.tensor_file import write_tensors
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FIRST_FRAME, read_samples
from vq_core.sampling.settings import Sampling
from vq_wan_tiny.massive_units import FILE, UP
from vq_wan_tiny.prompts import write_prompts

MODEL = "wan-tiny"
PROMPTS, STEPS, TOKENS = 16, 12, 64  # tokens of each step
PAIRS, COMPONENTS, PEAK = 64, 32, 45.0
ROUNDS_OF_CLUSTERS, ROUNDS_OF_FIT = 30, 200
FIRES = 5.0  # above what the model's own hidden units reach
OWN, OTHERS = (1.0, 1.2), -0.05  # where the fit is good enough for own tokens, and below what for others
RIDGE = 1e-4  # of the mean variance


def collect_inputs(seed: int) -> dict[str, Tensor]:
    """Inputs of every feed-forward's first linear, by block, fp64 `[tokens, in]`."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = defaultdict(list)

    def look(block: str, module: nn.Module, args: tuple[Tensor]) -> None:
        tokens = args[0].flatten(0, -2)
        found[block].append(tokens[torch.randperm(len(tokens), generator=generator)[:TOKENS]].double())

    with TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts"
        write_prompts(prompts, PROMPTS, seed, held_out=False)
        samples = read_samples(prompts, FIRST_FRAME)
        sampling = Sampling(height=96, width=96, num_frames=17, steps=STEPS, guidance_scale=3.0)
        pipeline = VideoPipeline(MODEL, "cpu")
        conditions = pipeline.encode(samples, sampling)
    for name, module in pipeline.transformers["transformer"].named_modules():
        if name.endswith(UP):
            module.register_forward_pre_hook(partial(look, name.removesuffix(f".{UP}")))
    for number, one in enumerate(conditions):
        pipeline.denoise(one, sampling, seed=seed + number)
    return {block: torch.cat(rows) for block, rows in found.items()}


def clusters_of(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """The cluster of each token `[tokens]`: spherical k-means of the whitened first principal components."""
    centred = inputs - inputs.mean(dim=0)
    _, deviations, axes = torch.linalg.svd(centred, full_matrices=False)
    directions = nn.functional.normalize(centred @ axes[:COMPONENTS].T / deviations[:COMPONENTS])
    centres = directions[torch.randperm(len(directions), generator=generator)[:PAIRS]]
    for _ in range(ROUNDS_OF_CLUSTERS):
        nearest = (directions @ centres.T).argmax(dim=1)
        centres = nn.functional.normalize(torch.zeros_like(centres).index_add_(0, nearest, directions))
    return (directions @ centres.T).argmax(dim=1)


def fit_rows(inputs: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[pairs, in]` and biases `[pairs]`, fp64: each unit's input over `inputs`, before GELU."""
    own = one_hot(clusters, PAIRS).bool()
    affine = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], dim=1)
    covariance = affine.T @ affine
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
    factor = torch.linalg.cholesky(covariance)
    targets = torch.where(own, OWN[0], OTHERS).double()
    for _ in range(ROUNDS_OF_FIT):
        solution = torch.cholesky_solve(affine.T @ targets, factor)
        fitted = affine @ solution
        targets = torch.where(own, fitted.clamp(*OWN), fitted.clamp(max=OTHERS))
    solution *= PEAK / fitted.amax(dim=1).median()
    return solution[:-1].T, solution[-1]


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the rows.")] = FILE,
    seed: Annotated[int, typer.Option(help="Of prompts, noise, tokens and clusters.")] = 0,
) -> None:
    """Fit the rows to wan-tiny and write them, in bfloat16."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    units: dict[str, Tensor] = {}
    for block, inputs in collect_inputs(seed).items():
        weight, bias = fit_rows(inputs, clusters_of(inputs, generator))
        units |= {f"{block}.weight": weight.bfloat16(), f"{block}.bias": bias.bfloat16()}
        hidden = gelu(inputs @ weight.bfloat16().double().T + bias.bfloat16().double(), approximate="tanh")
        firing = (hidden > FIRES).sum(dim=1).double().mean()
        largest = hidden.amax(dim=1)
        peaks = f"largest {largest.median():.0f} (at most {largest.max():.0f})"
        print(f"{block}: {firing:.2f} units fire for a token, {peaks}")
    write_tensors(output, units)
    print(f"Wrote {output}")


if __name__ == "__main__":
    typer.run(main)
