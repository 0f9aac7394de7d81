"""Means of the inputs that all blocks read, the embedded text and image: subtracted for every block or for none.

What produces such an input lies outside the blocks. So before the first block is quantized all of them are asked, one
after the other: a mean is taken if no linear of any block has a larger error then. The answer lies in `non_block` of
the artifact, with what produces the input. Blocks read it from there, and so does a run that is resumed.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from vq_algos.rounding.means import Current, Means
from vq_core.artifacts.decisions import has_decided, write_decided
from vq_core.files.tensor_file import load_tensors, read_header
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import ArtifactWriter
from vq_core.topology import Group, block_of, shard_of

IsBetter = Callable[[Group, Sequence[str], Tensor], bool]
"""Whether a mean fp32 `[in]` of a group's input makes none of these linears worse, which read it in one block."""


def decide_shared_means(writer: ArtifactWriter, file: str, means: Means, current: Current, is_better: IsBetter) -> None:
    """Write what `center_shared` gives to `file`, unless the run that is being resumed has."""
    if not has_decided(writer, file):
        with progress("center", means.weights.topology.num_blocks, "block") as advance:
            changed = center_shared(means, current, is_better, advance)
        write_decided(writer, file, changed, {})


def center_shared(means: Means, current: Current, is_better: IsBetter, advance: Advance) -> dict[str, Tensor]:
    """The means that are subtracted from what all blocks read, and what produces it then, fp32 by name, on the host.

    Args:
        means: those of the transformer's inputs.
        current: reads a tensor of the transformer, in fp32.
        is_better: asked about every block.
        advance: told of every block.
    """
    topology = means.weights.topology
    shared = (group for group in topology.groups if block_of(group.name) is None)
    taken = {group: mean for group in shared if (mean := means.storable(group, current)) is not None}
    for block in topology.block_shards:
        for group in tuple(taken):
            linears = [linear for linear in group.reads if shard_of(linear) == block]
            if linears and not is_better(group, linears, taken[group]):
                del taken[group]
        advance()
    changed: dict[str, Tensor] = {}
    for group, mean in taken.items():
        changed |= means.moved(group, mean, current)
    return changed


def read_means(writer: ArtifactWriter, file: str) -> dict[str, Tensor]:
    """The means fp32 `[in]` in `file` of `center_shared`, which is finished, by the name of their group."""
    path, suffix = writer.path(file), ".mean"
    means = load_tensors(path, [name for name in read_header(path) if name.endswith(suffix)])
    return {name.removesuffix(suffix): mean for name, mean in means.items()}
