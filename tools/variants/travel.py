"""Take one model through every stage and note a figure of each; the first refusal ends the journey."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from road import Road
from strip import psnr
from vq_core.artifacts.checkpoint import RUN_CONFIG_FOLDER
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.sampling.prompts import SAMPLES_FILE
from vq_core.testing.tiny_models import Variant

STAGES = ("collect", "smooth", "quantize", "export", "verify", "fake-quant", "infer", "LightX2V runs it as")
SCHEMES = ("int8", "fp8")
SIZE = ("--height", 64, "--width", 64, "--num-frames", 5, "--device", "cpu")
STEPS = ("--steps", 2)
FROM_IMAGE = ("i2v", "flf2v", "i2v-2.2", "ti2v-5b")
WITH_LAST_IMAGE = ("flf2v", "i2v-2.2")


@dataclass(frozen=True)
class Journey:
    """The figures of a model by stage, and the sentence that refused it, if one did."""

    seen: dict[str, str] = field(default_factory=dict)
    refusal: list[str] = field(default_factory=list)

    def stage(self, name: str, run: Callable[[], str]) -> None:
        """Note what `run` returns under `name`; after a refusal, do nothing."""
        if self.refusal:
            return
        try:
            self.seen[name] = run()
        except VqError as error:
            self.seen[name] = "refused"
            self.refusal.append(str(error))


def command_of(variant: Variant, prompts: Path) -> tuple[str, list[object]]:
    """The command that makes the first prompt's video with the model, and its options for texts and files."""
    entry = json.loads((prompts / SAMPLES_FILE).read_text(encoding="utf-8"))[0]
    texts = ["--prompt", entry["prompt"], "--negative-prompt", entry["negative_prompt"]]
    if variant == "vace":
        files = ["--reference", prompts / entry["reference_images"], "--video", prompts / entry["video"]]
        return "vq-infer vace", [*texts, *files, "--mask", prompts / entry["mask"]]
    if variant not in FROM_IMAGE:
        return "vq-infer t2v", [*texts]
    last = ["--last-image", prompts / entry["last_image"]] if variant in WITH_LAST_IMAGE else []
    return "vq-infer i2v", [*texts, "--image", prompts / entry["image"], *last]


def steps_of(variant: Variant) -> tuple[object, ...]:
    """Two steps; a distilled model takes its own."""
    return () if variant == "t2v-distilled" else STEPS


def travel(road: Road, model: Path, prompts: Path, folder: Path, variant: Variant | None) -> Journey:
    """Run every stage on `model`, INT8 and FP8, below `folder`; `variant` is None for a model of another family."""
    journey = Journey()
    stats, weights, videos = (
        folder / "stats",
        folder / "smoothed",
        {name: folder / f"videos-{name}" for name in SCHEMES},
    )
    qparams, checkpoints = ({name: folder / f"{kind}-{name}" for name in SCHEMES} for kind in ("qparams", "checkpoint"))
    sampling = (*SIZE, *(steps_of(variant) if variant else STEPS))
    command, texts_and_files = command_of(variant, prompts) if variant else ("", [])

    def collect() -> str:
        run = road.run("vq-calib collect", "--model", model, "--prompts", prompts, "-o", stats, *sampling)
        return f"{', '.join(f'{count:,}' for count in run['tokens'].values())} tokens"

    def smooth() -> str:
        road.run("vq-algos smooth", "--model", model, "--stats", stats, "-o", weights)
        decisions = [json.loads(path.read_text(encoding="utf-8")) for path in weights.glob("*/*block*.json")]
        return f"{sum(map(len, decisions))} groups"

    def quantize(scheme: str) -> str:
        road.run("vq-algos quantize", "--weights", weights, "--scheme", scheme, "-o", qparams[scheme])
        decisions = [json.loads(path.read_text(encoding="utf-8")) for path in qparams[scheme].glob("*/*block*.json")]
        return f"{sum(map(len, decisions))} linears"

    def export(scheme: str) -> str:
        made = ("--weights", weights, "--qparams", qparams[scheme])
        written = road.run("vq-export lightx2v", *made, "-o", checkpoints[scheme])
        return f"{written['size'] / 1e6:.2f} MB"

    def verify(scheme: str) -> str:
        found = road.run("vq-export verify", checkpoints[scheme], "--model", model)
        lowest = min(snr for linears in found["weight_snr_db"].values() for snr in linears.values())
        return f"{found['tensors']} tensors, weights {lowest:.0f} dB"

    def fake_quant(scheme: str) -> str:
        made = ("--weights", weights, "--qparams", qparams[scheme], "--prompts", prompts)
        road.run("vq-eval fake-quant", "--model", model, *made, "-o", videos[scheme], *sampling)
        return f"{_psnr(videos[scheme] / 'full' / '000.mkv', videos[scheme] / 'fake-quant' / '000.mkv'):.1f} dB"

    def infer(scheme: str) -> str:
        video = folder / f"{scheme}.mkv"
        made = ("--model", model, "--checkpoint", checkpoints[scheme])
        road.run(command, *made, *texts_and_files, *sampling, "-o", video)
        return f"{_psnr(videos[scheme] / 'full' / '000.mkv', video):.1f} dB"

    def run_as() -> str:
        path = checkpoints["int8"] / RUN_CONFIG_FOLDER / "int8-vllm.json"
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        steps = config.get("denoising_step_list")
        return f"`{config['model_cls']}`, `{config['task']}`" + (f", {len(steps)} steps, no guidance" if steps else "")

    journey.stage("collect", collect)
    journey.stage("smooth", smooth)
    for name, stage in (
        ("quantize", quantize), ("export", export), ("verify", verify), ("fake-quant", fake_quant), ("infer", infer),
    ):  # fmt: skip
        journey.stage(name, lambda stage=stage: _of_both(stage))  # type: ignore[misc]
    journey.stage("LightX2V runs it as", run_as)
    return journey


def _of_both(stage: Callable[[str], str]) -> str:
    """The figures of INT8 and FP8; one, if they are equal."""
    seen = [stage(scheme) for scheme in SCHEMES]
    return " / ".join(dict.fromkeys(seen))


def _psnr(reference: Path, candidate: Path) -> float:
    return psnr(read_video(candidate), read_video(reference))
