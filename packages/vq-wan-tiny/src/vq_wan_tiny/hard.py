"""The hard twin of a Wan transformer: the same function, with outlier channels like those of the 14B model.

In a large Wan model a few channels of every linear's input are hundreds of times larger than the others. Round to
nearest spends the 127 steps of a token's INT8 scale on them, and nothing is left for the rest. The twin has such
channels by an exact change of basis, the opposite of smoothing (`vq_core.numerics.folding`): with factors s `[in]`,

    X' = X·s,    W' = W / s,    X'W'ᵀ = XWᵀ,

where the producer of X takes s and the columns of its readers 1/s. The factors are powers of two, so that every scaled
weight is exact in bfloat16 as well, and the stored twin is the stored source as a function, not only nearly so.

SmoothQuant's s = max|X|^α / max|W|^(1−α) grows by exactly those factors, whatever α is: smoothed at every place, the
twin is the smoothed source again. So the loss of plain rounding, and the gain of smoothing, are known exactly.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vq_core.files.tensor_file import load_tensors, read_header, write_tensors
from vq_core.model.source import open_source
from vq_core.numerics.folding import fold_group
from vq_core.topology import LinearSink, ModulationSink, NormSink, Topology

VERSION = 1
"""Version of the construction: raised whenever the same source and seed would give another twin."""

MASSIVE_CHANNELS = 3
MASSIVE_EXPONENTS = (6, 8)  # 64 to 256 times
SPREAD = 1.0  # of the other channels' exponents, one standard deviation: log-normal, rounded to powers of two

TIME_PROJECTION = "condition_embedder.time_proj"
MODULATIONS = 6
# The norms without weights of their own, and which of the modulations shift and scale each of them.
SHIFT_AND_SCALE = {"norm1": (0, 1), "norm3": (3, 4)}


def harden(tensors: Mapping[str, Tensor], topology: Topology, seed: int) -> dict[str, Tensor]:
    """The hard twin of the transformer `tensors` (by diffusers' names, every one of `topology`).

    Every input that has an exact fold gets outliers. Those of the feed-forward's second linear stay as they are: GELU
    stands before it, and no fold exists. A diffusers model cannot store a gain for a modulated norm, as smoothed
    weights do, so the factors go into what modulates it: LN(x)·(1 + a + b) + c + d, with a and c from the block's
    table, b and d from the time projection, times s is LN(x)·(1 + [(1 + a)·s − 1] + b·s) + c·s + d·s. The projection
    serves every block, and so all blocks share the factors of norm1, and those of norm3.

    Returns:
        Tensors of the same names, shapes and dtypes, except that modulation tables are at least float32: the only ones
        whose new values, (1 + a)·s − 1, are rounded.
    """
    hard = dict(tensors)
    for group in topology.groups:
        if isinstance(group.sink, NormSink | LinearSink):
            fold_group(hard, group, outlier_factors(group.name, group.in_features, seed))
    for norm in SHIFT_AND_SCALE:
        _harden_modulated_norm(hard, topology, norm, seed)
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    dtypes |= {name: torch.promote_types(dtypes[name], torch.float32) for name in _tables(topology)}
    return {name: tensor.to(dtypes[name]) for name, tensor in hard.items()}


def outlier_factors(place: str, channels: int, seed: int) -> Tensor:
    """Factors s, fp64 `[channels]`, powers of two: a few massive ones, the others around one.

    Each `place` is drawn alone, so that its factors do not depend on the other places of a model.
    """
    digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    exponents = (SPREAD * torch.randn(channels, generator=generator, dtype=torch.float64)).round()
    massive = torch.randperm(channels, generator=generator)[:MASSIVE_CHANNELS]
    low, high = MASSIVE_EXPONENTS
    exponents[massive] = torch.randint(low, high + 1, massive.shape, generator=generator).double()
    return torch.exp2(exponents)


def build_hard(source_folder: Path, output_folder: Path, seed: int) -> None:
    """Write the hard twin of the pipeline in `source_folder` to `output_folder`, see `write_twin`."""
    write_twin(source_folder, output_folder, partial(harden, seed=seed))


def write_twin(
    source_folder: Path,
    output_folder: Path,
    change: Callable[[dict[str, Tensor], Topology], dict[str, Tensor]],
) -> None:
    """Copy the pipeline in `source_folder` to `output_folder`, with what `change` gives for each transformer's tensors.

    Raises:
        VqError: `source_folder` is not a whole model.
        OSError: `output_folder` cannot be written.
    """
    source = open_source(str(source_folder))
    for path in source_folder.rglob("*"):
        if path.is_file():
            copy = output_folder / path.relative_to(source_folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for checkpoint in source.components.values():
        changed = change(checkpoint.plain(checkpoint.topology.tensors), checkpoint.topology)
        for path in (output_folder / checkpoint.folder.relative_to(source_folder)).glob("*.safetensors"):
            shard = load_tensors(path, read_header(path))
            write_tensors(path, {name: changed.get(name, tensor) for name, tensor in shard.items()})


def _harden_modulated_norm(hard: dict[str, Tensor], topology: Topology, norm: str, seed: int) -> None:
    groups = [
        group
        for group in topology.groups
        if isinstance(group.sink, ModulationSink) and group.sink.gain.endswith(f".{norm}.gain")
    ]
    factors = outlier_factors(norm, groups[0].in_features, seed)
    for group in groups:
        fold_group(hard, group, factors)  # the readers' columns: the sink, a stored gain, is none of `hard`
    shift, scale = SHIFT_AND_SCALE[norm]
    for part in ("weight", "bias"):
        rows = hard[f"{TIME_PROJECTION}.{part}"].double().unflatten(0, (MODULATIONS, -1)).clone()
        for modulation in (shift, scale):
            rows[modulation] *= factors.reshape(-1, *[1] * (rows.ndim - 2))
        hard[f"{TIME_PROJECTION}.{part}"] = rows.flatten(0, 1)
    for name in _tables(topology):
        table = hard[name].double().clone()
        table[:, shift] *= factors
        table[:, scale] = (1 + table[:, scale]) * factors - 1
        hard[name] = table


def _tables(topology: Topology) -> list[str]:
    return [f"blocks.{block}.scale_shift_table" for block in range(topology.num_blocks)]
