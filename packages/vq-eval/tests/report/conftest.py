"""A comparison with everything around it, made up: two videos of four rows, their artifacts, a trajectory and layers.

`int8 rtn` is noisy and fails its gate, `int8 auto` passes, and the floor is nearly full precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.media.video import write_video
from vq_core.store.manifest import read_manifest
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_eval.compare.compare import compare
from vq_eval.compare.compared_folders import ComparedEntry
from vq_eval.compare.limits import Limit
from vq_eval.compare.schema import CompareReport, Role
from vq_eval.layers import schema as layers_report
from vq_eval.layers.schema import Gain, LayersReport, Noise, Place, Ranking, Sensitivity, Suspect
from vq_eval.record import ArtifactId, SampledPrompt
from vq_eval.trajectories import schema as trajectory_report
from vq_eval.trajectories.schema import (
    CandidateDrift,
    Curve,
    Drift,
    DriftSummary,
    PromptDrift,
    ScheduleStep,
    TrajectoryReport,
)

FRAMES, HEIGHT, WIDTH, FPS = 9, 32, 48, 8
NAMES = ("000", "001")
NOISE = {"floor": 1, "int8 rtn": 60, "int8 auto": 3}
LIMIT = Limit("psnr", "worst", 30.0, "--min-psnr 30")
COMPONENTS = {"transformer": ComponentHeader("transformer", "f" * 64, {})}


@dataclass(frozen=True)
class World:
    """Where everything lies, and the frames of every row and video."""

    comparison: Path
    trajectory: Path
    layers: Path
    frames: dict[str, list[np.ndarray]]


def scene(index: int) -> np.ndarray:
    """A bright square that moves over a gradient, uint8 `[FRAMES, HEIGHT, WIDTH, 3]`."""
    frame, row, column = np.meshgrid(np.arange(FRAMES), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    video = np.stack([70 + column, 80 + 2 * row, np.full_like(row, 90 + 20 * index)], axis=-1)
    square = (abs(column - 8 - 3 * frame) < 5) & (abs(row - 16) < 5)
    video[square] = (220, 60, 60)
    return video.astype(np.uint8)


def noisy(video: np.ndarray, amplitude: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-amplitude, amplitude + 1, video.shape)
    return np.clip(video + noise, 0, 255).astype(np.uint8)


def artifact(path: Path, kind: str, settings: dict[str, Any], parents: dict[str, str], text: dict[str, str]) -> str:
    """Write an artifact; its digest."""
    header = Header(kind, 1, "vq-test 0.1.0", "wan", "tiny-model", COMPONENTS, settings, parents)
    with create_artifact(path, header) as writer:
        for file, content in text.items():
            writer.write_text(file, content)
    return read_manifest(path, kind, 1).digest()


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    """Write a comparison of the rows `noise` (name to amplitude; the one called `floor` is it)."""

    def make(noise: dict[str, int] = NOISE, *, gate: bool = True, names: Sequence[str] = NAMES) -> World:
        root = tmp_path_factory.mktemp("world")
        stats = artifact(root / "stats", "activation-stats", {"steps": 4}, {}, {})
        smoothed = artifact(root / "smoothed", "smoothed-weights", {"method": "auto"}, {"activation-stats": stats}, {})
        frames = {"full": [scene(index) for index in range(len(names))]}
        entries = [ComparedEntry("full", "reference", videos(root, "full", names, frames["full"], {}))]
        digests: dict[str, str] = {}
        for number, (name, amplitude) in enumerate(noise.items()):
            frames[name] = [noisy(it, amplitude, 10 * number + index) for index, it in enumerate(frames["full"])]
            parents = {}
            if name != "floor":
                settings, parents = {"scheme": "int8", "number": number}, {"smoothed-weights": smoothed}
                digests[name] = artifact(root / f"qparams-{number}", "quant-params", settings, parents, {})
                parents = {**parents, "quant-params": digests[name]}
            role: Role = "floor" if name == "floor" else "candidate"
            entries.append(ComparedEntry(name, role, videos(root, name, names, frames[name], parents)))
        compare(entries, root / "compare", [LIMIT] if gate else [], metrics="psnr", device="cpu")
        drift = trajectory_of(list(noise))
        artifact(root / "drift", trajectory_report.KIND, {}, {}, {"trajectory.json": drift.model_dump_json()})
        last = next(reversed(digests))
        layers = layers_of(digests[last])
        artifact(root / "layers", layers_report.KIND, {}, {}, {"layers.json": layers.model_dump_json()})
        return World(root / "compare", root / "drift", root / "layers", frames)

    return make


@pytest.fixture(scope="session")
def world(make_world: Callable[..., World]) -> World:
    """The usual one; not to be changed."""
    return make_world()


@pytest.fixture
def compared(world: World) -> CompareReport:
    return CompareReport.model_validate_json((world.comparison / "compare.json").read_bytes())


@pytest.fixture
def trajectory(world: World) -> TrajectoryReport:
    return TrajectoryReport.model_validate_json((world.trajectory / "trajectory.json").read_bytes())


@pytest.fixture
def layers(world: World) -> LayersReport:
    return LayersReport.model_validate_json((world.layers / "layers.json").read_bytes())


def videos(root: Path, name: str, names: Sequence[str], frames: Sequence[np.ndarray], parents: dict[str, str]) -> Path:
    """Write an artifact of videos; the folder in it."""
    prompts = [{"prompt": f"a red square, {stem} <b>", "negative_prompt": ""} for stem in names]
    settings = {"steps": 4, "seed": 42, "prompts": prompts}
    header = Header(KIND, FORMAT, "vq-eval 0.1.0", "wan", "tiny-model", COMPONENTS, settings, parents)
    with create_artifact(root / f"videos {name}", header) as writer:
        for stem, video in zip(names, frames, strict=True):
            for suffix in (".mp4", ".mkv"):
                write_video(writer.draft(f"full/{stem}{suffix}"), video, FPS)
                writer.adopt(f"full/{stem}{suffix}")
    return root / f"videos {name}" / "full"


def trajectory_of(names: list[str]) -> TrajectoryReport:
    def drift(scale: float) -> Drift:
        errors = tuple(scale * step for step in (1, 2, 3, 4))
        curve = Curve(relative_error=errors, cosine=(1.0,) * 4)
        return Drift(prediction={"cond": curve, "uncond": curve}, guided=curve, latent=curve)

    return TrajectoryReport(
        model="tiny-model",
        branches=("cond", "uncond"),
        steps=tuple(
            ScheduleStep(component="transformer", timestep=1000 * sigma, sigma=sigma, bucket=0)
            for sigma in (1.0, 0.9, 0.7, 0.4)
        ),
        prompts=(SampledPrompt(prompt="a red square", negative_prompt="", seed=42),),
        candidates=tuple(
            CandidateDrift(
                name=name, role="floor" if name == "floor" else "candidate", scheme=None, weights=None, qparams=None,
                summary=DriftSummary(
                    final_error=0.04, final_cosine=1.0, independent_error=0.02, amplification=2.0, worst_step=3
                ),
                teacher_forced=drift(0.001 * 4**number), free_running=drift(0.003 * 4**number),
                prompts=(PromptDrift(teacher_forced=drift(0.001), free_running=drift(0.003)),),
            )
            for number, name in enumerate(names)
        ),
    )  # fmt: skip


def layers_of(qparams: str) -> LayersReport:
    def noise(db: float) -> Noise:
        return Noise(snr_db=db, noise_to_signal=10 ** (-db / 10))

    places = tuple(
        Place(
            component="transformer", kind="linear", name=f"blocks.{block}.{linear}", block=block, place=linear,
            own=noise(40 - 4 * number - block), in_place=noise(30 - block), rounding=noise(35), share=0.01, cells=(),
        )
        for block in range(6)
        for number, linear in enumerate(("attn1.to_q", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"))
    )  # fmt: skip
    broken = "blocks.3.ffn.net.2"
    return LayersReport(
        model="tiny-model", scheme="int8", weights=ArtifactId(path="smoothed", digest="0" * 64),
        qparams=ArtifactId(path="qparams", digest=qparams), steps=4,
        prompts=(SampledPrompt(prompt="a red square", negative_prompt="", seed=42),), places=places,
        ranking=Ranking(linears=tuple(f"transformer.{place.name}" for place in places), blocks=(), buckets=()),
        suspects=(Suspect(
            component="transformer", kind="linear", name=broken, linears=(broken,), snr_db=9.0, expected_db=28.0,
            sentence=f"{broken} has 9.0 dB where 28.0 dB are expected.",
        ),),
        sensitivity=Sensitivity(unit="linears", rows=tuple(
            Gain(left_out=count, added=(), latent_error=0.1, latent_cosine=0.99, psnr_db=40.0 + count)
            for count in (0, 1, 2)
        )),
    )  # fmt: skip
