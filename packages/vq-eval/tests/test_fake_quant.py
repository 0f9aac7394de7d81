import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vq_core.errors import VqError
from vq_core.pipeline import Sampling, VideoPipeline
from vq_core.prompts import SAMPLES_FILE
from vq_core.recipe import Variant as Candidate
from vq_core.store import open_artifact, partial_folder
from vq_core.tiny import Variant, write_samples
from vq_core.video import read_video
from vq_eval import fake_quant
from vq_eval.fake_quant import FORMAT, KIND, Candidates, Made, make_videos, open_candidates
from vq_eval.fake_quant_linear import FakeQuantLinear

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)
ALL: tuple[Candidate, ...] = ("full", "smoothed", "fake-quant")

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]


class Job:
    """Everything `make_videos` needs, small; `run` overrides some of it."""

    def __init__(self, model: Path, weights: Path, qparams: Path, prompts: Path, output: Path) -> None:
        self.model, self.weights, self.qparams = model, weights, qparams
        self.prompts, self.output = prompts, output
        self.asked: Sequence[str] = ("full", "fake-quant")
        self.sampling = SAMPLING
        self.device = "cpu"

    def run(self, output: Path | None = None, *, resume: bool = False) -> Made:
        candidates = open_candidates(self.asked, self.weights, self.qparams)
        return make_videos(
            str(self.model),
            candidates,
            self.prompts,
            self.sampling,
            output or self.output,
            device=self.device,
            resume=resume,
        )

    def refused(self, sentence: str, *, resume: bool = False) -> None:
        """Refused with `sentence`, and no new folder is left."""
        before = set(self.output.parent.iterdir())
        with pytest.raises(VqError, match=sentence):
            self.run(resume=resume)
        assert set(self.output.parent.iterdir()) == before


@pytest.fixture
def job(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path, tmp_path: Path) -> Callable[[Variant], Job]:
    return lambda variant: Job(tiny_model(variant), *artifacts(variant), prompts, tmp_path / "videos")


@pytest.fixture
def one_prompt(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "one", 1, with_images=True)


@pytest.fixture(scope="module")
def whole(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text-to-video in all variants, two prompts, uninterrupted."""
    work = Job(tiny_model("t2v"), *artifacts("t2v"), prompts, tmp_path_factory.mktemp("whole") / "videos")
    work.asked = ALL
    work.run()
    return work.output


def psnr_db(reference: Path, candidate: Path) -> float:
    error = read_video(reference).astype(float) - read_video(candidate).astype(float)
    return 10 * math.log10(255**2 / max(float(np.square(error).mean()), 1e-12))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- what is made -------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["t2v", "i2v", "i2v-2.2"])
def test_the_three_variants_of_one_video(job: Callable[[Variant], Job], one_prompt: Path, variant: Variant) -> None:
    work = job(variant)
    work.asked, work.prompts = ALL, one_prompt
    made = work.run()
    assert made.folders == {name: work.output / name for name in ALL}
    assert (made.prompts, made.resumed_videos) == (1, 0)
    files = {f"{name}/000.{suffix}" for name in ALL for suffix in ("mp4", "mkv")}
    assert contents(work.output).keys() == files | {"manifest.json"}
    full, smoothed, simulated = (work.output / name / "000.mkv" for name in ALL)
    assert read_video(full).shape == (5, 64, 64, 3)
    assert read_video(full.with_suffix(".mp4")).shape == (5, 64, 64, 3)
    assert read_video(full).std() > 10
    assert psnr_db(full, smoothed) > 60
    assert 10 < psnr_db(full, simulated) < 50


def test_bf16_folded_weights_cost_little(
    job: Callable[[Variant], Job],
    write_weights: Callable[..., Path],
    write_qparams: Callable[..., Path],
    one_prompt: Path,
    tmp_path: Path,
) -> None:
    work = job("t2v")
    work.asked, work.prompts = ALL, one_prompt
    work.weights = write_weights(work.model, tmp_path / "bf16", torch.bfloat16)
    work.qparams = write_qparams(work.weights, tmp_path / "fp8", "fp8")
    work.run()
    full, smoothed, simulated = (work.output / name / "000.mkv" for name in ALL)
    assert 25 < psnr_db(full, smoothed) < 60
    assert 10 < psnr_db(full, simulated) < psnr_db(full, smoothed)


def test_the_same_seed_gives_the_same_bits(job: Callable[[Variant], Job], whole: Path) -> None:
    work = job("t2v")
    work.asked = ["full"]
    work.run()
    for name in ("000.mkv", "001.mkv", "000.mp4"):
        assert (work.output / "full" / name).read_bytes() == (whole / "full" / name).read_bytes()


def test_prompt_i_has_seed_plus_i(job: Callable[[Variant], Job], whole: Path, tmp_path: Path) -> None:
    work = job("t2v")
    work.prompts, work.sampling = tmp_path / "second.json", replace(SAMPLING, seed=SAMPLING.seed + 1)
    work.prompts.write_text(json.dumps(json.loads((job("t2v").prompts / SAMPLES_FILE).read_text())[1:]))
    work.run()
    for name in ("full", "fake-quant"):
        second = (work.output / name / "000.mkv").read_bytes()
        assert second == (whole / name / "001.mkv").read_bytes()
        assert second != (whole / name / "000.mkv").read_bytes()


def test_both_experts_are_changed(job: Callable[[Variant], Job]) -> None:
    work = job("i2v-2.2")
    transformers = VideoPipeline(str(work.model), "cpu").transformers
    open_candidates(["fake-quant"], work.weights, work.qparams).apply("fake-quant", transformers, "cpu")
    assert len(transformers) == 2
    codes = []
    for transformer in transformers.values():
        linear = transformer.get_submodule("blocks.1.ffn.net.0.proj")
        assert isinstance(linear, FakeQuantLinear)
        codes.append(linear.codes)
    assert not torch.equal(*codes)


def test_the_manifest_says_what_the_videos_were_made_of(job: Callable[[Variant], Job]) -> None:
    work = job("i2v")
    work.asked = ["full"]
    work.run()
    manifest = open_artifact(work.output, KIND, FORMAT).manifest
    settings = manifest.settings
    assert (settings["steps"], settings["seed"], settings["guidance_scale"]) == (2, 42, 5.0)
    assert (settings["variants"], settings["device"], settings["dtype"]) == (["full"], "cpu", "float32")
    first = settings["prompts"][0]  # type: ignore[index]
    image = hashlib.sha256((work.prompts / "image_0.png").read_bytes()).hexdigest()
    assert first == json.loads((work.prompts / SAMPLES_FILE).read_text())[0] | {"image": image}
    assert manifest.parents == {}  # full precision was made from neither artifact


@pytest.mark.parametrize(
    ("weights", "qparams", "variants"),
    [(False, False, ("full",)), (True, False, ("full", "smoothed")), (True, True, ("full", "fake-quant"))],
)
def test_without_variants_the_artifacts_decide(
    artifacts: Artifacts, weights: bool, qparams: bool, variants: tuple[str, ...]
) -> None:
    paths = artifacts("t2v")
    assert open_candidates(None, paths[0] if weights else None, paths[1] if qparams else None).variants == variants


def test_variants_are_made_in_one_order_and_once(artifacts: Artifacts) -> None:
    assert open_candidates(["fake-quant", "full", "full"], *artifacts("t2v")).variants == ("full", "fake-quant")


def test_the_next_step_compares_the_last_variant_with_the_first() -> None:
    folders: dict[Candidate, Path] = {"full": Path("v/full"), "fake-quant": Path("v/fake-quant")}
    step = Made(folders, 1, 0).next_steps
    assert step == "vq-eval compare --reference v/full --candidate v/fake-quant -o report"
    assert Made({"full": Path("v/full")}, 1, 0).next_steps == ""


# --- interrupted and resumed --------------------------------------------------------------------


class Crash(RuntimeError):
    """Stands for a crash."""


def interrupt(work: Job, videos: int) -> None:
    """Let a run crash when `videos` lossless videos are written."""
    write = fake_quant.write_video
    written: list[Path] = []

    def write_some(path: Path, frames: np.ndarray, fps: int) -> None:
        if len(written) == videos:
            raise Crash
        write(path, frames, fps)
        if path.suffix == ".mkv":
            written.append(path)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(fake_quant, "write_video", write_some)
        work.run()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Records how many prompts are encoded and to which variants the transformers are turned."""
    seen: list[object] = []
    encode, apply = VideoPipeline.encode, Candidates.apply

    def encode_watched(self: VideoPipeline, samples, sampling):  # type: ignore[no-untyped-def]
        seen.append([sample.prompt[-1] for sample in samples])
        return encode(self, samples, sampling)

    def apply_watched(self: Candidates, variant, transformers, device):  # type: ignore[no-untyped-def]
        seen.append(variant)
        apply(self, variant, transformers, device)

    monkeypatch.setattr(VideoPipeline, "encode", encode_watched)
    monkeypatch.setattr(Candidates, "apply", apply_watched)
    return seen


@pytest.mark.parametrize(
    ("finished", "done_again"), [(3, [["0", "1"], "smoothed", "fake-quant"]), (5, [["1"], "fake-quant"])]
)
def test_a_resumed_run_loads_only_what_the_missing_videos_need(
    job: Callable[[Variant], Job], whole: Path, watched: list[object], finished: int, done_again: list[object]
) -> None:
    work = job("t2v")
    work.asked = ALL
    interrupt(work, finished)
    watched.clear()
    assert work.run(resume=True).resumed_videos == finished
    assert watched == done_again
    assert contents(work.output) == contents(whole)


def test_with_every_video_there_nothing_is_loaded(
    job: Callable[[Variant], Job], one_prompt: Path, watched: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job("t2v")
    work.asked, work.prompts = ["full"], one_prompt

    def crash(self: object, final: Path) -> None:
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr("vq_core.store.ArtifactWriter.commit", crash)
        work.run()
    watched.clear()
    monkeypatch.setattr(VideoPipeline, "transformers", property(crash))
    assert work.run(resume=True).resumed_videos == 1
    assert not watched
    assert (work.output / "full" / "000.mkv").exists()


KILLED_WHILE_WRITING = """
import os, signal
from pathlib import Path
from vq_core import video
from vq_eval.cli import main

ffmpeg = video._ffmpeg

def killed(*arguments, stdin=None):
    path = Path(arguments[-1])
    if "001" in path.name and path.suffix == ".mkv":
        path.write_bytes(b"half a video")
        os.kill(os.getpid(), signal.SIGKILL)
    return ffmpeg(*arguments, stdin=stdin)

video._ffmpeg = killed
main()
"""


def options(work: Job) -> list[str]:
    given = {
        "--model": work.model,
        "--weights": work.weights,
        "--qparams": work.qparams,
        "--prompts": work.prompts,
        "-o": work.output,
        "--steps": 2,
        "--height": 64,
        "--width": 64,
        "--num-frames": 5,
        "--variants": ",".join(work.asked),
        "--device": "cpu",
    }
    return ["fake-quant", *(str(part) for option in given.items() for part in option)]


def test_killed_while_a_video_is_written(job: Callable[[Variant], Job], whole: Path) -> None:
    work = job("t2v")
    work.asked = ALL
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, *options(work)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not work.output.exists()
    assert work.run(resume=True).resumed_videos == 1
    assert contents(work.output) == contents(whole)


def test_killed_after_the_first_video(job: Callable[[Variant], Job], whole: Path) -> None:
    work = job("t2v")
    work.asked = ALL
    command = [sys.executable, "-c", "from vq_eval.cli import main; main()", *options(work)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = partial_folder(work.output) / "full" / "000.mkv"
    while not first.exists():
        assert process.poll() is None, "ended before its first video"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not work.output.exists()
    assert 1 <= work.run(resume=True).resumed_videos < 6
    assert contents(work.output) == contents(whole)


# --- what is refused ----------------------------------------------------------------------------


def test_an_unknown_variant_is_refused(job: Callable[[Variant], Job]) -> None:
    work = job("t2v")
    work.asked = ["full", "fake_quant"]
    work.refused("`fake_quant` is not a variant: choose from full, smoothed, fake-quant.")


@pytest.mark.parametrize("variant", ["smoothed", "fake-quant"])
def test_a_variant_without_its_weights_is_refused(artifacts: Artifacts, variant: str) -> None:
    with pytest.raises(VqError, match="`--weights` is missing"):
        open_candidates([variant], None, artifacts("t2v")[1])


def test_fake_quant_without_quant_params_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(VqError, match="`--qparams` is missing"):
        open_candidates(["fake-quant"], artifacts("t2v")[0], None)


def test_quant_params_of_other_weights_are_refused(
    job: Callable[[Variant], Job], write_weights: Callable[..., Path], tmp_path: Path
) -> None:
    work = job("t2v")
    work.weights = write_weights(work.model, tmp_path / "other", torch.bfloat16)
    work.refused(f"{work.qparams} was not made from {work.weights}")


def test_artifacts_of_another_model_are_refused(job: Callable[[Variant], Job], tiny_model: TinyModel) -> None:
    work = job("t2v")
    work.model = tiny_model("i2v")
    work.refused(f"{work.weights} was made from another model")


def test_prompts_without_images_are_refused_by_an_image_to_video_model(
    job: Callable[[Variant], Job], tmp_path: Path
) -> None:
    work = job("i2v")
    work.prompts = write_samples(tmp_path / "texts", 1, with_images=False)
    work.refused("has no `image`")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 100}, "height 100 is not a multiple of 16: use 96 or 112"),
        ({"num_frames": 8}, "num_frames 8 is not 4k"),
        ({"steps": 0}, "steps 0 is less than 1"),
    ],
)
def test_sizes_that_the_model_cannot_have_are_refused(
    job: Callable[[Variant], Job], change: dict[str, int], sentence: str
) -> None:
    work = job("i2v")
    work.sampling = replace(SAMPLING, **change)  # type: ignore[arg-type]
    work.refused(sentence)


def test_an_output_that_exists_is_refused(job: Callable[[Variant], Job]) -> None:
    work = job("t2v")
    work.output.mkdir()
    work.refused(f"{work.output} exists already")


def test_an_interrupted_run_is_continued_only_when_asked_and_unchanged(
    job: Callable[[Variant], Job], one_prompt: Path
) -> None:
    work = job("t2v")
    work.prompts, work.asked = one_prompt, ["full"]
    interrupt(work, 0)
    work.refused("continue it with --resume")
    work.sampling = replace(SAMPLING, steps=3)
    work.refused("was begun with other settings", resume=True)


def test_a_cuda_device_that_is_not_there_is_refused(job: Callable[[Variant], Job]) -> None:
    work = job("t2v")
    work.device = "cuda:99"
    work.refused("`cuda:99` is not in this machine")


def test_a_folder_that_is_no_diffusers_model_is_refused(job: Callable[[Variant], Job], tmp_path: Path) -> None:
    work = job("t2v")
    work.model = tmp_path / "native"
    work.model.mkdir()
    work.refused(f"{work.model} is not a model in diffusers' layout")


def test_a_transformer_alone_is_refused(job: Callable[[Variant], Job]) -> None:
    work = job("t2v")
    work.model /= "transformer"
    work.refused("give a whole diffusers pipeline folder")
