"""Several processes that make one video under `torchrun`: tokens, heads and guidance are split among GPUs.

Tokens are split and gathered according to diffusers' plan for its transformer; attention sees all of them, through
Ulysses around any attention or through diffusers' ring. Every process has the whole transformer and ends a step with
the same latent.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from vq_core.errors import VqError
from vq_core.runtime.process import Process
from vq_infer.fused.block import FusedBlock
from vq_infer.parallel.attention import Ring, Ulysses
from vq_infer.parallel.guidance import NAME, SplitGuidance
from vq_infer.parallel.plan import ParallelPlan

DIMENSIONS = ("guidance", "ring", "ulysses")


@dataclass(frozen=True)
class Team:
    """This process among the others; `mesh` is None if it is alone."""

    plan: ParallelPlan
    process: Process
    device: torch.device
    mesh: DeviceMesh | None


@contextmanager
def team(plan: ParallelPlan, process: Process, device: torch.device) -> Iterator[Team]:
    """Join the other processes, each on its own GPU (see `resolve_device`), or on the CPU.

    Raises:
        VqError: the number of processes that `torchrun` started is not that of `plan`.
    """
    plan.check_launch(process)
    if plan.is_alone:
        yield Team(plan, process, device, None)
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None
    )
    try:
        with warnings.catch_warnings():
            # Diffusers gathers with a function that has another name in newer versions of torch.
            warnings.filterwarnings("ignore", ".*_functional_collectives.*deprecated", FutureWarning)
            shape = (2 if plan.guidance else 1, plan.ring, plan.ulysses)
            yield Team(plan, process, device, init_device_mesh(device.type, shape, mesh_dim_names=DIMENSIONS))
    finally:
        dist.destroy_process_group()


def parallelize(transformer: nn.Module, team: Team, *, tokens: int, guided: bool) -> None:
    """Make `transformer`, which is whole in every process, compute this process's share.

    Args:
        transformer: diffusers' or ours, on the device.
        team: this process among the others.
        tokens: of the video.
        guided: whether the pipeline also asks for predictions without the prompt.

    Raises:
        VqError: heads or tokens do not divide, guidance is off, or the transformer has no plan for split tokens.
    """
    plan, mesh, model = team.plan, team.mesh, cast(Any, transformer)
    if mesh is None:
        return
    plan.check_video(heads=int(model.config.num_attention_heads), tokens=tokens, guided=guided)
    if plan.shares > 1:
        _share_tokens(model, team, mesh, tokens)
    if plan.guidance:
        from diffusers.hooks import HookRegistry

        registry = HookRegistry.check_if_exists_or_initialize(model)
        registry.register_hook(SplitGuidance(mesh.get_group("guidance")), NAME)


def _share_tokens(model: Any, team: Team, mesh: DeviceMesh, tokens: int) -> None:
    """Do what diffusers' `enable_parallelism` does, also on the CPU and for our blocks."""
    from diffusers import ContextParallelConfig
    from diffusers.hooks.context_parallel import apply_context_parallel
    from diffusers.models._modeling_parallel import ParallelConfig

    plan = team.plan
    if model._cp_plan is None:
        raise VqError(f"{type(model).__name__} cannot share its tokens: use --cfg-parallel alone, or one process.")
    uneven = tokens % plan.shares != 0
    context = ContextParallelConfig(
        ring_degree=plan.ring,
        ulysses_degree=plan.ulysses,
        ulysses_anything=uneven and plan.ulysses > 1,
        ring_anything=uneven and plan.ring > 1,
        mesh=mesh,
    )
    config = ParallelConfig(context_parallel_config=context)
    config.setup(team.process.rank, team.process.world_size, team.device, mesh=mesh)
    apply_context_parallel(model, context, model._cp_plan)
    for block in model.blocks:
        _share_attention(block, team, mesh, tokens, config)


def _share_attention(block: nn.Module, team: Team, mesh: DeviceMesh, tokens: int, config: Any) -> None:
    """Make self-attention of one block run over split tokens; cross-attention needs no change."""
    if isinstance(block, FusedBlock):
        if team.plan.ring > 1:
            block.attention = Ring(block.attention, config)
        else:
            block.attention = Ulysses(block.attention, mesh.get_group("ulysses"), tokens)
        return
    processor = cast(Any, block.get_submodule("attn1")).processor
    processor._parallel_config = config
    if team.device.type == "cuda":
        processor._attention_backend = "_native_cudnn"
