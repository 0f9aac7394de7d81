"""What is kept, moved or refused for how much memory is free."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from vq_core.errors import VqError
from vq_core.sampling.settings import Sampling
from vq_infer.memory.needs import GIB, MARGIN, ModelMemory, Needs, TransformerBytes
from vq_infer.memory.plan import (
    MemoryPlan,
    free_bytes,
    host_free_bytes,
    peak_bytes,
    plan_for,
    plan_memory,
    require_plan,
)
from vq_infer.memory.wan_sizes import wan_sizes
from vq_infer.options import EngineSettings, OffloadName
from vq_infer.parallel.plan import ParallelPlan

BLOCKS = 10


def needs(experts: int = 2, *, activations: int = 3, vae: int = 6, vae_tiled: int = 2, encoders: int = 5) -> Needs:
    """In GiB; a transformer has ten blocks of 1 and 1 more."""
    return Needs(
        transformers={str(index): TransformerBytes((GIB,) * BLOCKS, GIB) for index in range(experts)},
        activations=activations * GIB,
        vae_weights=GIB,
        vae=vae * GIB,
        vae_tiled=vae_tiled * GIB,
        encoders=encoders * GIB,
    )


def planned(
    free: float,
    of: Needs | None = None,
    offload: OffloadName = "auto",
    tiling: bool | None = None,
    *,
    alone: bool = False,
) -> MemoryPlan | None:
    """For `free` GiB beside the margin; None where nothing fits."""
    return plan_memory(needs() if of is None else of, int(free * GIB) + MARGIN, offload, tiling, alone=alone)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        # 22 of both experts, 1 and 6 of the VAE
        (29, (False, 0, False)),
        (28, (True, 0, False)),  # 11 of one, 1 of the VAE's weights, 3 of activations
        (15, (True, 0, False)),
        (14, (True, 4, False)),  # 7, two places of 1, 4
        (13, (True, 4, False)),
        (12, (True, 6, False)),
        (7, (True, 10, False)),  # the VAE alone: 1 + 6
        (6, None),  # 3 of the rest and the places, 4: no
    ],
)
def test_the_least_costly_that_fits(free: int, expected: tuple[bool, int, bool] | None) -> None:
    plan = planned(free)
    assert (plan and (plan.in_turns, plan.offloaded, plan.vae_tiling)) == expected
    assert plan is None or plan.peak_bytes <= free * GIB + MARGIN


def test_a_video_alone_always_takes_turns() -> None:
    # 11 of one expert, 1 of the VAE's weights, 3 of activations
    assert planned(100, alone=True) == MemoryPlan(True, 0, False, 15 * GIB + MARGIN)
    assert planned(14, alone=True) == planned(14)


def test_tiles_come_last_because_they_change_the_video() -> None:
    wide = needs(experts=1, vae=12)
    tiled, asked = planned(12, wide), planned(100, wide, tiling=True)
    assert tiled is not None
    assert (tiled.vae_tiling, tiled.offloaded) == (True, 6)
    assert planned(12, wide, tiling=False) is None
    assert asked is not None
    assert asked.vae_tiling


def test_offload_as_asked() -> None:
    all_blocks, in_turns = planned(100, offload="block"), planned(7, offload="block")
    assert all_blocks is not None
    assert (all_blocks.offloaded, all_blocks.host_bytes) == (BLOCKS, 2 * BLOCKS * GIB)
    assert in_turns is not None
    assert (in_turns.in_turns, in_turns.host_bytes) == (True, BLOCKS * GIB)
    assert planned(14, offload="none") is None


def test_encoders_are_part_of_the_peak() -> None:
    assert peak_bytes(needs(encoders=60), in_turns=True, offloaded=10, vae_tiling=True) == 60 * GIB + MARGIN
    assert planned(50, needs(encoders=60)) is None


def test_plan_in_a_line() -> None:
    assert MemoryPlan(peak_bytes=3 * GIB).describe() == "every block on the device; about 3.0 GiB at its peak"
    plan = MemoryPlan(True, 6, True, 12 * GIB, 6 * GIB)
    assert plan.describe() == (
        "transformers and VAE in turns, 6 blocks on the host (6.0 GiB), the VAE in tiles; about 12.0 GiB at its peak"
    )


@cache
def sizes() -> dict[str, tuple[ModelMemory, Sampling]]:
    return wan_sizes(2, fused=True)


def model_memory() -> ModelMemory:
    memory, _ = sizes()["Wan2.1 14B"]
    return memory


def require(
    free: float,
    offload: OffloadName = "auto",
    *,
    device: str = "cuda",
    host_free: float = 64,
    model: str = "Wan2.1 14B",
    sampling: Sampling | None = None,
    tiling: bool | None = None,
) -> MemoryPlan:
    memory, usual = sizes()[model]
    bytes_free, host = int(free * GIB), int(host_free * GIB)
    return require_plan(
        memory.needs, sampling or usual, offload, tiling, device=device, free=bytes_free, host_free=host, alone=False
    )


def test_14b_at_480p_fits_24_and_16_gb() -> None:
    assert require(80).offloaded == require(80, device="cpu").offloaded == 0
    for free, offloaded in ((22.0, False), (14.5, True)):
        plan = require(free)
        assert (plan.in_turns, plan.offloaded > 0) == (True, offloaded)
        assert plan.peak_bytes < free * GIB


@pytest.mark.parametrize(
    ("free", "settings", "sentence"),
    [
        (16, {"offload": "none"}, r"cuda has 16\.0 GiB free and this video needs about 20\.\d GiB .*--offload auto"),
        (4, {}, r"no number of frames fits: .* a device with more memory"),
        (16, {"model": "Wan2.2 5B", "tiling": False}, "leave --no-vae-tiling out, which fits"),
        (15.5, {"host_free": 2}, r"blocks would wait on the host, which takes \d+\.\d GiB where 2\.0 GiB are free"),
        (80, {"offload": "block", "device": "cpu"}, "leave it out with --device cpu"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(free: float, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        require(free, **settings)


def test_refused_says_how_many_frames_fit() -> None:
    large = Sampling(height=1440, width=2560)
    with pytest.raises(VqError, match=r"use --num-frames (\d+) or less, which fits") as refusal:
        require(20, sampling=large)
    frames = int(str(refusal.value).split("--num-frames ")[1].split()[0])
    assert frames % 4 == 1
    assert require(20, sampling=replace(large, num_frames=frames))
    with pytest.raises(VqError, match="--num-frames"):
        require(20, sampling=replace(large, num_frames=frames + 4))


def test_a_plan_is_for_one_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vq_infer.memory.plan.read_memory", lambda *_, **__: model_memory())
    monkeypatch.setattr("vq_infer.memory.plan.free_bytes", lambda _: 80 * GIB)

    def peak(parallel: ParallelPlan) -> int:
        nothing: Any = None
        settings, device = EngineSettings(parallel=parallel), torch.device("cpu")
        return plan_for(settings, Sampling(), nothing, nothing, device, references=0, alone=True).peak_bytes

    shared = ParallelPlan(ulysses=8)
    saved = model_memory().needs(Sampling()).activations - model_memory().needs(Sampling(), parallel=shared).activations
    assert saved > 2 * GIB
    assert peak(ParallelPlan()) - peak(shared) == saved


def test_the_cpu_s_memory_is_the_host_s() -> None:
    total = psutil.virtual_memory().total
    assert 0 < host_free_bytes() < total
    assert 0 < free_bytes(torch.device("cpu")) < total


def test_what_torch_keeps_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4)
    assert free_bytes(torch.device("cuda", 0)) == 13


def test_processes_of_one_machine_share_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=80))
    assert host_free_bytes() == 80
    for name, value in {"RANK": 3, "WORLD_SIZE": 16, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": 8}.items():
        monkeypatch.setenv(name, str(value))
    assert host_free_bytes() == 10
    assert free_bytes(torch.device("cpu")) == 10
