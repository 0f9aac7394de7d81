"""A comparison with everything around it, made up: two videos of four rows, their artifacts, a trajectory and layers.

`int8 rtn` is noisy and fails its gate, `int8 auto` passes, and the floor is nearly full precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vq_core.media.video import write_video
from vq_core.store.manifest import read_manifest
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_eval.compare.schema import (
    CompareReport,
    Figure,
    GateResult,
    MeasuredVideo,
    MetricInfo,
    Overall,
    PromptInfo,
    Provenance,
    Row,
    VideoInfo,
    write_report,
)
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
LIMIT_DB = 30.0
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


def psnr(a: np.ndarray, b: np.ndarray) -> float | None:
    error = float(np.mean((a.astype(float) - b) ** 2))
    return None if error == 0 else 10 * np.log10(255**2 / error)


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
        scenes = [scene(index) for index in range(len(names))]
        frames = {"full": scenes}
        rows = [row(root, "full", "reference", names, scenes, scenes, {})]
        digests: dict[str, str] = {}
        for number, (name, amplitude) in enumerate(noise.items()):
            frames[name] = [noisy(video, amplitude, 10 * number + index) for index, video in enumerate(scenes)]
            parents = {}
            if name != "floor":
                settings = {"scheme": "int8", "number": number}
                digests[name] = artifact(
                    root / f"qparams-{number}", "quant-params", settings, {"smoothed-weights": smoothed}, {}
                )
                parents = {"smoothed-weights": smoothed, "quant-params": digests[name]}
            role = "floor" if name == "floor" else "candidate"
            rows.append(row(root, name, role, names, scenes, frames[name], parents))
        gates = [gate_of(it) for it in rows if it.role == "candidate"] if gate else []
        report = CompareReport(
            verdict="no gate" if not gates else "passed" if all(it.passed for it in gates) else "failed",
            metrics={"psnr": MetricInfo(
                label="PSNR", unit="dB", digits=2, higher_is_better=True, compares=True, per="frame",
                meaning="Peak SNR.",
            )},
            unavailable={},
            reference=rows[0],
            rows=tuple(rows[1:]),
            videos=tuple(
                VideoInfo(
                    name=name, frames=FRAMES, height=HEIGHT, width=WIDTH, prompt=f"a red square, {name} <b>",
                    negative_prompt="", seed=42 + index, unavailable={},
                )
                for index, name in enumerate(names)
            ),
            gates=tuple(gates),
        )  # fmt: skip
        write_report(report, "", root / "compare")
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


def row(
    root: Path, name: str, role: Any, names: Sequence[str], scenes: list[np.ndarray], videos: list[np.ndarray],
    parents: dict[str, str],
) -> Row:  # fmt: skip
    path = root / f"videos {name}"
    header = Header("videos", 1, "vq-eval 0.1.0", "wan", "tiny-model", COMPONENTS, {"steps": 4}, parents)
    with create_artifact(path, header) as writer:
        for stem, video in zip(names, videos, strict=True):
            for suffix in (".mp4", ".mkv"):
                write_video(writer.path(f"{role}/{stem}{suffix}"), video, FPS)
    figures = [psnr(video, of) for video, of in zip(videos, scenes, strict=True)]
    finite = [figure for figure in figures if figure is not None]
    measured = tuple(
        MeasuredVideo(
            name=stem, file=f"{stem}.mkv", lossless=True, identical=figure is None,
            figures={} if role == "reference" else {"psnr": Figure(
                video=figure, per_frame=tuple(psnr(a, b) for a, b in zip(video, of, strict=True))
            )},
        )
        for stem, video, of, figure in zip(names, videos, scenes, figures, strict=True)
    )  # fmt: skip
    worst = min(range(len(names)), key=lambda index: figures[index] or np.inf)
    overall = Overall(
        mean=float(np.mean(finite)) if finite else None,
        interval=(min(finite), max(finite)) if len(finite) > 1 else None,
        worst=figures[worst],
        worst_video=names[worst],
    )
    provenance = Provenance(
        path=str(path), digest=read_manifest(path, "videos", 1).digest(), variant=role, tool="vq-eval 0.1.0",
        family="wan", model="tiny-model", fingerprints={"transformer": "f" * 64}, settings={"steps": 4, "seed": 42},
        prompts=tuple(PromptInfo(prompt="", negative_prompt="", files={}) for _ in names), parents=parents, altered=(),
    )  # fmt: skip
    return Row(
        name=name, role=role, folder=str(path / role), identical_videos=len(videos) - len(finite),
        seconds_per_video=1.5,
        provenance=provenance, overall={} if role == "reference" else {"psnr": overall}, videos=measured,
    )  # fmt: skip


def gate_of(row: Row) -> GateResult:
    overall = row.overall["psnr"]
    passed = overall.worst is None or overall.worst >= LIMIT_DB
    text = f"PSNR of `{overall.worst_video}` of {row.name} is {overall.worst:.2f} dB, {LIMIT_DB:g} is asked."
    return GateResult(
        row=row.name, metric="psnr", statistic="worst", limit=LIMIT_DB, rule=f"--min-psnr {LIMIT_DB:g}",
        figure=overall.worst, video=overall.worst_video, passed=passed, sentence=text,
    )  # fmt: skip


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
