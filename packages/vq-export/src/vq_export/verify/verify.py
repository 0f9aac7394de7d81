"""Verification of a converted checkpoint, read back from disk.

Its structure is compared with what the runtime reads, not with what the exporter claims to have written. Each check is
a module of `vq_export.verify.checks`; docs/broken_checkpoints.md lists what they catch.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.comfyui_checkpoint import ComfyuiCheckpoint
from vq_core.artifacts.converted import open_converted
from vq_core.runtime.progress import progress
from vq_core.topology import Topology
from vq_export.verify.checks.block_error import BlockError, block_error, cast_snr_db
from vq_export.verify.checks.comfyui_reads import comfyui_problems, comfyui_warnings
from vq_export.verify.checks.configs import config_problems
from vq_export.verify.checks.coverage import coverage_problems
from vq_export.verify.checks.fidelity import Fidelity, compare
from vq_export.verify.checks.files import file_problems, file_warnings
from vq_export.verify.checks.values import Values
from vq_export.verify.reference import Reference
from vq_export.verify.verification import NOT_COMPARED, Verification

MAX_EXCESS_DB = 15.0
"""A rounder that minimises another error than the weight's may leave some dB more than rounding to nearest. A wrong
scale, gain or weight leaves more than this limit, up to the 30 dB that 8 bits resolve."""
MIN_CAST_SNR_DB = 40.0
"""A block keeps 50 to 60 dB after a cast to bfloat16; in INT8 it keeps 40 dB."""

Verifier = Callable[[Path, Reference | None, str], Verification]
"""`verifier(folder, reference, device)` re-reads what a target wrote."""


def verify_lightx2v(folder: Path, reference: Reference | None, device: str) -> Verification:
    """Verify the LightX2V checkpoint in `folder`; see `verify`."""
    return verify(open_checkpoint(folder), reference, device=device)


def verify_file_per_transformer(folder: Path, reference: Reference | None, device: str) -> Verification:
    """Verify the checkpoint in `folder` that has one file per transformer; see `verify`."""
    return verify(open_converted(folder), reference, device=device)


def verify(checkpoint: ConvertedCheckpoint, reference: Reference | None = None, *, device: str = "cpu") -> Verification:
    """Read every file of `checkpoint` again, and compare it with `reference` where there is one.

    The comparison covers every tensor, and one block of each transformer, computed as the runtime computes it. Host
    memory: a few times one linear in fp32.

    Raises:
        VqError: a file is damaged.
    """
    problems, warnings = _structure(checkpoint)
    values = _values(checkpoint, device)
    problems += values.problems
    warnings += values.warnings
    if reference is None:
        warnings.append(NOT_COMPARED)
    if problems:  # a broken checkpoint cannot be computed with
        return Verification(problems, warnings, values.read, values.rounded)
    middle = {name: _middle_block(component.topology) for name, component in checkpoint.components.items()}
    casts = {name: cast_snr_db(checkpoint, name, block, device) for name, block in middle.items()}
    warnings += _cast_warnings(casts)
    if reference is None:
        return Verification(problems, warnings, values.read, values.rounded, casts)
    blocks = {name: block_error(checkpoint, name, reference, block, device) for name, block in middle.items()}
    found = compare(checkpoint, reference, device=device)
    return Verification(
        problems=[*_tensor_problems(found), *_block_problems(blocks)],
        warnings=warnings,
        tensors=values.read,
        rounded=values.rounded,
        cast_snr_db=casts,
        reference=reference.name,
        weight_snr_db={
            name: {linear: error.snr_db for linear, error in fidelity.linears.items()}
            for name, fidelity in found.items()
        },
        blocks=blocks,
    )


def _structure(checkpoint: ConvertedCheckpoint) -> tuple[list[str], list[str]]:
    """Problems and warnings about files, names, dtypes, shapes and settings."""
    if isinstance(checkpoint, ComfyuiCheckpoint):
        return list(comfyui_problems(checkpoint)), list(comfyui_warnings(checkpoint))
    problems = [*file_problems(checkpoint), *config_problems(checkpoint), *coverage_problems(checkpoint)]
    return problems, list(file_warnings(checkpoint))


def _middle_block(topology: Topology) -> int:
    """Number of the block in the middle of the main stack, which every Wan has."""
    return sum(shard.startswith("block_") for shard in topology.block_shards) // 2


def _values(checkpoint: ConvertedCheckpoint, device: str) -> Values:
    values = Values()
    total = sum(len(component.topology.shards()) for component in checkpoint.components.values())
    with progress("verify", total, "shard") as advance:
        for name, component in checkpoint.components.items():
            for shard in component.topology.shards():
                values.check_shard(checkpoint, name, shard, device)
                advance()
    return values


def _tensor_problems(found: dict[str, Fidelity]) -> Iterator[str]:
    for name, fidelity in found.items():
        for linear, error in fidelity.linears.items():
            if not error.excess_db <= MAX_EXCESS_DB:
                yield (
                    f"`{linear}` of {name} is not the source's weight: {error.snr_db:.1f} dB SNR, and a row or column "
                    f"with {error.excess_db:.0f} dB more error than rounding leaves."
                )
        for tensor in fidelity.other:
            yield f"`{tensor}` of {name} is not the source's."


def _block_problems(blocks: dict[str, BlockError]) -> Iterator[str]:
    for name, block in blocks.items():
        for branch in block.wrong:
            error, what = block.branches[branch], branch.replace("_", " ")
            yield (
                f"The {what} of block {block.block} of {name}, computed as its runtime does, is not "
                f"the source's: {error.snr_db:.1f} dB SNR, {error.excess_db:.0f} dB more error than rounding leaves."
            )


def _cast_warnings(casts: dict[str, float]) -> Iterator[str]:
    for name, snr in casts.items():
        if not snr >= MIN_CAST_SNR_DB:
            yield f"The runtime's cast to bfloat16 leaves {snr:.1f} dB of a block of {name}: as much noise as 8 bits."
