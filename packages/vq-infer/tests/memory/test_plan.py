"""What is kept, moved or refused for how much memory is free."""

from functools import cache
from typing import Any

import pytest
import torch

from vq_core.errors import VqError
from vq_core.sampling.settings import Sampling
from vq_infer.memory.needs import GIB, MARGIN, ModelMemory, Needs, TransformerBytes
from vq_infer.memory.plan import MemoryPlan, peak_bytes, plan_for, plan_memory, require_plan
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
    plan = plan_memory(needs(), free * GIB + MARGIN, "auto", None, alone=False)
    found = None if plan is None else (plan.in_turns, plan.offloaded, plan.vae_tiling)
    assert found == expected
    if plan is not None:
        assert plan.peak_bytes <= free * GIB + MARGIN


def test_a_video_alone_always_takes_turns() -> None:
    plan = plan_memory(needs(), 100 * GIB, "auto", None, alone=True)
    assert plan is not None
    assert (plan.in_turns, plan.offloaded, plan.peak_bytes) == (True, 0, 15 * GIB + MARGIN)  # 11, 1 and 3
    assert plan_memory(needs(), 14 * GIB, "auto", None, alone=True) == plan_memory(
        needs(), 14 * GIB, "auto", None, alone=False
    )


def test_tiles_come_last_because_they_change_the_video() -> None:
    wide = needs(experts=1, vae=12)
    plan = plan_memory(wide, 12 * GIB + MARGIN, "auto", None, alone=False)
    assert plan is not None
    assert (plan.vae_tiling, plan.offloaded) == (True, 6)
    assert plan_memory(wide, 12 * GIB + MARGIN, "auto", False, alone=False) is None
    plan = plan_memory(wide, 100 * GIB, "auto", True, alone=False)
    assert plan is not None
    assert plan.vae_tiling


def test_offload_as_asked() -> None:
    all_blocks = plan_memory(needs(), 100 * GIB, "block", None, alone=False)
    assert all_blocks is not None
    assert (all_blocks.offloaded, all_blocks.host_bytes) == (BLOCKS, 2 * BLOCKS * GIB)
    in_turns = plan_memory(needs(), 8 * GIB, "block", None, alone=False)
    assert in_turns is not None
    assert (in_turns.in_turns, in_turns.host_bytes) == (True, BLOCKS * GIB)
    assert plan_memory(needs(), 14 * GIB + MARGIN, "none", None, alone=False) is None


def test_encoders_are_part_of_the_peak() -> None:
    assert peak_bytes(needs(encoders=60), in_turns=True, offloaded=10, vae_tiling=True) == 60 * GIB + MARGIN
    assert plan_memory(needs(encoders=60), 50 * GIB, "auto", None, alone=False) is None


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


def require(free: float, offload: OffloadName = "auto", device: str = "cuda", host_free: float = 64) -> MemoryPlan:
    memory = model_memory()
    return require_plan(
        memory.needs,
        Sampling(),
        offload,
        None,
        device=device,
        free=int(free * GIB),
        host_free=int(host_free * GIB),
        alone=False,
    )


def test_14b_at_480p_fits_24_and_16_gb() -> None:
    assert require(80).offloaded == 0
    for free, offloaded in ((22.0, False), (14.5, True)):
        plan = require(free)
        assert (plan.in_turns, plan.offloaded > 0) == (True, offloaded)
        assert plan.peak_bytes < free * GIB


def test_refused_without_offload_says_that_it_would_fit() -> None:
    with pytest.raises(
        VqError, match=r"cuda has 16\.0 GiB free and this video needs about 20\.\d GiB .*--offload auto"
    ):
        require(16, "none")


def test_refused_says_how_many_frames_fit() -> None:
    large = Sampling(height=1440, width=2560)
    with pytest.raises(VqError, match=r"use --num-frames (\d+) or less, which fits") as refusal:
        require_plan(
            model_memory().needs, large, "auto", None, device="cuda", free=20 * GIB, host_free=64 * GIB, alone=False
        )
    frames = int(str(refusal.value).split("--num-frames ")[1].split()[0])
    assert frames % 4 == 1
    smaller = Sampling(height=1440, width=2560, num_frames=frames)
    assert plan_memory(model_memory().needs(smaller), 20 * GIB, "auto", None, alone=False) is not None
    more = Sampling(height=1440, width=2560, num_frames=frames + 4)
    assert plan_memory(model_memory().needs(more), 20 * GIB, "auto", None, alone=False) is None


def test_refused_where_nothing_fits() -> None:
    with pytest.raises(VqError, match=r"no number of frames fits: .* a device with more memory"):
        require(4)


def test_refused_where_tiles_are_forbidden() -> None:
    memory, sampling = sizes()["Wan2.2 5B"]
    with pytest.raises(VqError, match="leave --no-vae-tiling out, which fits"):
        require_plan(
            memory.needs, sampling, "auto", False, device="cuda", free=16 * GIB, host_free=64 * GIB, alone=False
        )


def test_refused_where_the_host_cannot_hold_the_blocks() -> None:
    with pytest.raises(
        VqError, match=r"blocks would wait on the host, which takes \d+\.\d GiB where 2\.0 GiB are free"
    ):
        require(15.5, host_free=2)


def test_offload_is_for_a_gpu() -> None:
    with pytest.raises(VqError, match="leave it out with --device cpu"):
        require(80, "block", device="cpu")
    assert require(80, device="cpu").offloaded == 0


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
