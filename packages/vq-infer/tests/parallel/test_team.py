"""A video that two processes share against the same from one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.media.video import read_video
from vq_core.runtime.device import resolve_device
from vq_core.runtime.process import ALONE, this_process
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_infer.attention import AUTO, cudnn, sdpa
from vq_infer.attention_choice import select_attention
from vq_infer.engine.native import generate
from vq_infer.engine.transformer import load_transformer
from vq_infer.options import EngineSettings
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.parallel.team import Team, parallelize, team
from vq_infer.request import VideoRequest

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

Together = Callable[..., list[Any]]
SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)
SAMPLE = Sample("a fox in fresh snow", "blurred", None)


def video(model: Path, checkpoint: Path, plan: ParallelPlan, device: str = "cpu") -> Any:
    """The frames, from this process's share of the work."""
    torch.set_num_threads(1)
    converted = open_checkpoint(checkpoint)
    with team(plan, this_process(), torch.device(resolve_device(device))) as here:

        def load(name: str) -> nn.Module:
            return load_transformer(converted.components[name], here.device, name, select_attention(AUTO, here.device))

        pipeline = VideoPipeline(str(model), str(here.device), load)
        (conditions,) = pipeline.encode([SAMPLE], SAMPLING)
        tokens = pipeline.video_tokens(SAMPLE, SAMPLING)
        for transformer in pipeline.transformers.values():
            parallelize(transformer, here, tokens=tokens, guided=SAMPLING.guided)
        return pipeline.sample(conditions, SAMPLING, SAMPLING.seed)


def psnr(a: Any, b: Any) -> float:
    error = np.square(a.astype(float) - b).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def made_by_the_engine(model: Path, checkpoint: Path, plan: ParallelPlan, output: Path) -> bool:
    """Did this process write the video?"""
    torch.set_num_threads(1)
    settings = EngineSettings(parallel=plan)
    return generate(VideoRequest("t2v", str(model), checkpoint, SAMPLE, output, SAMPLING, "cpu", settings)) is not None


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("t2v")


@pytest.fixture
def checkpoint(converted: Callable[..., Path]) -> Path:
    return converted("t2v", smooth=True)


def test_the_engine_writes_one_video_in_the_first_process(
    together: Together, model: Path, checkpoint: Path, tmp_path: Path
) -> None:
    shared, alone = tmp_path / "shared.mkv", tmp_path / "alone.mkv"
    assert together(2, made_by_the_engine, model, checkpoint, ParallelPlan(ulysses=2), shared) == [True, False]
    assert made_by_the_engine(model, checkpoint, ParallelPlan(), alone)
    assert psnr(read_video(shared), read_video(alone)) > 40


@pytest.mark.parametrize("plan", [ParallelPlan(ring=2), ParallelPlan(guidance=True)], ids=["ring", "cfg"])
def test_video_is_that_of_one_process(together: Together, model: Path, checkpoint: Path, plan: ParallelPlan) -> None:
    alone = video(model, checkpoint, ParallelPlan())
    first, second = together(2, video, model, checkpoint, plan)
    assert np.array_equal(first, second)
    # Predictions are exchanged as they are; attention sums in another order, and that flips a code now and then.
    assert psnr(first, alone) == float("inf") if plan.guidance else psnr(first, alone) > 40


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("degree", ["ulysses", "ring", "guidance"])
def test_on_two_gpus(model: Path, checkpoint: Path, tmp_path: Path, degree: str) -> None:
    alone = video(model, checkpoint, ParallelPlan(), "cuda")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, __file__, str(model), str(checkpoint), degree, str(tmp_path)], check=True)
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    assert np.array_equal(first, second)
    # Predictions are exchanged as they are; between the linears values are in bfloat16; and the ring sums attention in
    # another order, as another kernel does.
    least = {"guidance": float("inf"), "ulysses": 35.0}.get(degree)
    if least is None:
        least = psnr(with_another_attention_kernel(model, checkpoint), alone) - 3
    assert psnr(first, alone) >= least


def with_another_attention_kernel(model: Path, checkpoint: Path) -> Any:
    """The frames that FlashAttention makes where cuDNN runs otherwise: what another order of sums is to this model."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(
                1, 2
            )

    with pytest.MonkeyPatch.context() as patch:
        for attention in (sdpa, cudnn):
            patch.setattr(attention, "attend", attend)
        return video(model, checkpoint, ParallelPlan(), "cuda")


def test_alone_nothing_changes() -> None:
    model = nn.Linear(2, 2)
    with team(ParallelPlan(), ALONE, torch.device("cpu")) as here:
        assert here == Team(ParallelPlan(), ALONE, torch.device("cpu"), None)
        parallelize(model, here, tokens=4, guided=True)
    assert "forward" not in vars(model)


if __name__ == "__main__":  # one of the two processes of `test_on_two_gpus`
    of_model, of_checkpoint, asked, folder = sys.argv[1:]
    shared = ParallelPlan(**{asked: True if asked == "guidance" else 2})
    np.save(Path(folder) / f"{os.environ['RANK']}.npy", video(Path(of_model), Path(of_checkpoint), shared, "cuda"))
