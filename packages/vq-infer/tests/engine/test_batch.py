"""Videos of a set of prompts: those of the single command, written as an artifact."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vq_core.artifacts.videos import FORMAT, KIND, VideosWriter
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.sampling.prompts import SAMPLES_FILE, Sample
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import open_artifact
from vq_core.store.resumable_folder import partial_folder
from vq_core.testing.tiny_models import Variant, write_samples
from vq_infer.attention import sdpa
from vq_infer.engine import batch
from vq_infer.engine.batch import BatchRequest, make_batch, resolve_batch
from vq_infer.engine.native import generate
from vq_infer.memory.plan import MemoryPlan
from vq_infer.options import BatchOptions, EngineSettings
from vq_infer.request import VideoRequest

TinyModel = Callable[[Variant], Path]

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)


@pytest.fixture
def request_(tiny_model: TinyModel, converted: Callable[..., Path], tmp_path: Path) -> BatchRequest:
    model, checkpoint = str(tiny_model("t2v")), converted("t2v")
    prompts = write_samples(tmp_path / "prompts", 2, with_images=False)
    return BatchRequest(model, checkpoint, prompts, tmp_path / "videos", SAMPLING, "cpu", EngineSettings())


def test_every_video_is_that_of_a_single_run_also_with_little_memory(
    request_: BatchRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_batch(request_)
    assert made is not None
    assert (made.folder, made.prompts, made.resumed_videos) == (tmp_path / "videos" / "native", 2, 0)
    assert made.summary.seconds > 0
    assert (made.folder / "001.mp4").is_file()
    entry = json.loads((tmp_path / "prompts" / SAMPLES_FILE).read_text())[1]
    sample = Sample(entry["prompt"], entry["negative_prompt"])
    output, sampling = tmp_path / "single.mkv", replace(SAMPLING, seed=SAMPLING.seed + 1)
    generate(VideoRequest("t2v", request_.model, request_.checkpoint, sample, output, sampling, "cpu"))
    monkeypatch.setattr(batch, "plan_for", lambda *_, references, alone: MemoryPlan(in_turns=True, vae_tiling=True))
    little = make_batch(replace(request_, output=request_.output.with_name("little")))
    assert little is not None
    assert little.kernels == made.kernels != ()
    assert little.summary.attention == made.summary.attention == ("flash",)
    assert np.array_equal(read_video(made.folder / "001.mkv"), read_video(output))
    for name in ("000.mkv", "001.mkv"):
        assert np.array_equal(read_video(made.folder / name), read_video(little.folder / name))


def test_the_manifest_is_that_of_videos_and_names_the_checkpoint(request_: BatchRequest) -> None:
    make_batch(replace(request_, sampling=replace(SAMPLING, steps=1)))
    manifest = open_artifact(request_.output, KIND, FORMAT).manifest
    checkpoint = open_artifact(request_.checkpoint, "lightx2v-checkpoint", 1)
    assert manifest.parents == {"lightx2v-checkpoint": checkpoint.digest}
    ours, theirs = manifest.components["transformer"], checkpoint.manifest.components["transformer"]
    assert (ours.fingerprint, ours.config) == (theirs.fingerprint, theirs.config)
    assert (manifest.settings["variants"], manifest.settings["attention"]) == (["native"], sdpa.NAME)
    assert manifest.measured["attention"] == {"native": ["flash"]}


def test_finished_videos_are_kept(request_: BatchRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = VideosWriter.draft

    def crash_at_the_second(self: VideosWriter, variant: str, index: int) -> object:
        if index == 1:
            raise RuntimeError("crash")
        return draft(self, variant, index)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="crash"):
        patched.setattr(VideosWriter, "draft", crash_at_the_second)
        make_batch(request_)
    first = partial_folder(request_.output) / "native" / "000.mkv"
    inode = first.stat().st_ino
    made = make_batch(request_, resume=True)
    assert made is not None
    assert made.resumed_videos == 1
    assert (request_.output / "native" / "000.mkv").stat().st_ino == inode


@pytest.mark.parametrize(
    ("variant", "settings", "sentence"),
    [
        ("i2v", EngineSettings(), "was made from another model|holds"),
        ("t2v", EngineSettings(offload="block"), "--offload block moves blocks between host and GPU"),
    ],
)
def test_what_cannot_be_made_is_refused(
    request_: BatchRequest, tiny_model: TinyModel, variant: Variant, settings: EngineSettings, sentence: str
) -> None:
    with pytest.raises(VqError, match=sentence):
        make_batch(replace(request_, model=str(tiny_model(variant)), settings=settings))
    assert not request_.output.exists()


def test_a_last_seed_beyond_64_bits_is_refused(request_: BatchRequest) -> None:
    with pytest.raises(VqError, match=r"the last of 2 prompts would have 18446744073709551616"):
        make_batch(replace(request_, sampling=replace(request_.sampling, seed=2**64 - 1)))
    assert not request_.output.exists()


def test_without_a_model_that_of_the_checkpoint_is_taken(request_: BatchRequest) -> None:
    options = BatchOptions(checkpoint=request_.checkpoint, prompts=request_.prompts, output=request_.output)
    assert resolve_batch(options).model == request_.model


def test_options_come_before_the_recipe_and_that_before_the_model(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "model")
    (model / "sampling.json").write_text('{"steps": 9, "fps": 8, "height": 32}')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model}\noutput: out\neval: {{prompts: builtin:evaluation, height: 96}}\n")
    options = BatchOptions(output=tmp_path / "videos", steps=3, recipe=recipe)
    request = resolve_batch(options)
    assert request.checkpoint == tmp_path / "out" / "lightx2v"
    assert str(request.prompts) == "builtin:evaluation"
    assert (request.sampling.steps, request.sampling.height, request.sampling.fps) == (3, 96, 8)
    with pytest.raises(VqError, match="`--output` is missing"):
        resolve_batch(replace(options, output=None))
    with pytest.raises(VqError, match="--attention-tolerance is for --attention auto"):
        resolve_batch(replace(options, attention_tolerance=0.05))
