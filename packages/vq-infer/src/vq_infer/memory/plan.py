"""What stays on the device and what waits on the host, planned from what a video needs and what is free."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil
import torch

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.runtime.device import runtime_dtype
from vq_core.runtime.process import this_process
from vq_core.sampling.pipeline_layout import PipelineLayout
from vq_core.sampling.settings import Sampling
from vq_infer.fused.ops import has_kernels
from vq_infer.memory.needs import GIB, MARGIN, Needs, TransformerBytes, read_memory
from vq_infer.memory.offload import PLACES
from vq_infer.options import EngineSettings, OffloadName

NeedsOf = Callable[[Sampling], Needs]


@dataclass(frozen=True)
class MemoryPlan:
    """How one run uses memory; the defaults keep everything on the device.

    Attributes:
        in_turns: one transformer on the device at a time, and none while the video is decoded.
        offloaded: number of blocks of each transformer that wait on the host.
        vae_tiling: the VAE works in tiles.
        peak_bytes: estimate of the most that the device holds.
        host_bytes: size of the blocks on the host.
    """

    in_turns: bool = False
    offloaded: int = 0
    vae_tiling: bool = False
    peak_bytes: int = 0
    host_bytes: int = 0

    def describe(self) -> str:
        """The plan in a line."""
        waiting = f"{self.offloaded} blocks on the host ({_gib(self.host_bytes)})"
        blocks = waiting if self.offloaded else "every block on the device"
        parts = ["transformers and VAE in turns", blocks] if self.in_turns else [blocks]
        if self.vae_tiling:
            parts.append("the VAE in tiles")
        return f"{', '.join(parts)}; about {_gib(self.peak_bytes)} at its peak"


def plan_for(
    settings: EngineSettings,
    sampling: Sampling,
    checkpoint: ConvertedCheckpoint,
    layout: PipelineLayout,
    device: torch.device,
    *,
    references: int,
    alone: bool,
) -> MemoryPlan:
    """How this process uses memory for a video with `references` reference images, from headers and what is free now.

    `alone`: no other video of its size comes after it.

    Raises:
        VqError: memory does not suffice; says what would fit.
    """
    memory = read_memory(checkpoint, layout, itemsize=runtime_dtype(device).itemsize, fused=has_kernels(device))
    return require_plan(
        lambda sampling: memory.needs(sampling, references=references, parallel=settings.parallel),
        sampling,
        settings.offload,
        settings.vae_tiling,
        device=str(device),
        free=free_bytes(device),
        host_free=host_free_bytes(),
        alone=alone,
    )


def plan_memory(
    needs: Needs, free: int, offload: OffloadName, vae_tiling: bool | None, *, alone: bool
) -> MemoryPlan | None:
    """The plan that fits into `free` bytes at the least cost, or None if there is none.

    First come the measures that change no bit of the video: transformers in turns, then as many blocks on the host as
    needed. Then the VAE in tiles, unless `vae_tiling` decides that. A video that is made `alone` always takes turns:
    they cost it nothing, because it needs no transformer a second time.
    """
    longest = max(len(transformer.blocks) for transformer in needs.transformers.values())
    tilings = (False, True) if vae_tiling is None else (vae_tiling,)
    # In pairs, so that the first block's place is free while the last one computes. Two on the host save nothing.
    counts = {"none": [0], "auto": [0, *range(PLACES * 2, longest, 2), longest], "block": [longest]}[offload]
    for tiling in tilings:
        for count in counts:
            for in_turns in (True,) if alone else (False, True):
                peak = peak_bytes(needs, in_turns=in_turns, offloaded=count, vae_tiling=tiling)
                if peak <= free:
                    # In turns, only one expert is on the host: the other is read again from disk.
                    held = [_host_bytes(transformer, count) for transformer in needs.transformers.values()]
                    return MemoryPlan(in_turns, count, tiling, peak, max(held) if in_turns else sum(held))
    return None


def peak_bytes(needs: Needs, *, in_turns: bool, offloaded: int, vae_tiling: bool) -> int:
    """The most that the device holds, from the encoders to the last frame."""
    vae = needs.vae_tiled if vae_tiling else needs.vae
    resident = [_resident_bytes(transformer, offloaded) for transformer in needs.transformers.values()]
    weights = max(resident) if in_turns else sum(resident)
    if in_turns:  # the VAE works before the first transformer is loaded and when the last one is gone
        computing = needs.vae_weights + max(weights + needs.activations, vae)
    else:
        computing = needs.vae_weights + weights + max(needs.activations, vae)
    return max(needs.encoders, computing) + MARGIN


def require_plan(
    needs_of: NeedsOf,
    sampling: Sampling,
    offload: OffloadName,
    vae_tiling: bool | None,
    *,
    device: str,
    free: int,
    host_free: int,
    alone: bool,
) -> MemoryPlan:
    """The plan for a video of `sampling` on `device`; see `plan_for`."""
    if device == "cpu" and offload == "block":
        raise VqError("--offload block moves blocks between host and GPU: leave it out with --device cpu.")
    asked: OffloadName = "none" if device == "cpu" else offload
    plan = plan_memory(needs_of(sampling), free, asked, vae_tiling, alone=alone)
    if plan is None:
        raise VqError(_refusal(needs_of, sampling, asked, vae_tiling, device, free))
    if plan.offloaded and plan.host_bytes > host_free:
        raise VqError(
            f"{plan.offloaded} blocks would wait on the host, which takes {_gib(plan.host_bytes)} where "
            f"{_gib(host_free)} are free for this process: end other programs, or use a device with more memory."
        )
    return plan


def _refusal(
    needs_of: NeedsOf, sampling: Sampling, offload: OffloadName, vae_tiling: bool | None, device: str, free: int
) -> str:
    longest = max(len(transformer.blocks) for transformer in needs_of(sampling).transformers.values())
    least = peak_bytes(
        needs_of(sampling),
        in_turns=True,
        offloaded=0 if offload == "none" else longest,
        vae_tiling=vae_tiling is not False,
    )
    said = f"{device} has {_gib(free)} free and this video needs about {_gib(least)}"
    if offload == "none" and device != "cpu" and plan_memory(needs_of(sampling), free, "auto", vae_tiling, alone=True):
        return f"{said} where every block stays on the device: use --offload auto, which fits."
    if vae_tiling is False and plan_memory(needs_of(sampling), free, offload, None, alone=True):
        return f"{said} where the VAE does not work in tiles: leave --no-vae-tiling out, which fits."
    for frames in range(sampling.num_frames - 4, 0, -4):
        if plan_memory(needs_of(replace(sampling, num_frames=frames)), free, offload, vae_tiling, alone=True):
            return f"{said}: use --num-frames {frames} or less, which fits, or a smaller --height and --width."
    return f"{said}, and no number of frames fits: use a smaller --height and --width, or a device with more memory."


def _resident_bytes(transformer: TransformerBytes, offloaded: int) -> int:
    """Bytes on the device: blocks that are not offloaded, the places that the others share, and the rest."""
    if not offloaded:
        return transformer.total
    return transformer.total - _host_bytes(transformer, offloaded) + PLACES * max(transformer.blocks)


def _host_bytes(transformer: TransformerBytes, offloaded: int) -> int:
    return sum(sorted(transformer.blocks)[: min(offloaded, len(transformer.blocks))])


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def free_bytes(device: torch.device) -> int:
    """Free memory of `device`; for CUDA this includes what torch has reserved and does not use."""
    if device.type != "cuda":
        return host_free_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def host_free_bytes() -> int:
    """Host memory that this process can take without swapping: an equal share for each of torchrun's processes here."""
    return this_process().host_share(int(psutil.virtual_memory().available))
