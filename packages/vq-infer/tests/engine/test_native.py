"""The native engine end to end, and what it refuses before it spends time."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FILES, ModelInputs, Sample, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import write_samples
from vq_infer.engine.native import generate
from vq_infer.memory.plan import MemoryPlan
from vq_infer.options import CacheChoice, EngineSettings, Task
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.request import VideoRequest

Folder = Callable[..., Path]
MakeRequest = Callable[..., VideoRequest]
SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)


@pytest.fixture
def make_request(tiny_model: Folder, converted: Folder, image: Path, tmp_path: Path) -> MakeRequest:
    """A request for a tiny model and its checkpoint, with these fields of it or of its sample changed."""

    def make(variant: str, task: Task = "t2v", **changes: Any) -> VideoRequest:
        files = {key: changes.pop(key) for key in FILES & changes.keys()}
        sample = Sample("a fox in fresh snow", "blurred", **({"image": image} if task == "i2v" else {}) | files)
        model, checkpoint = str(tiny_model(variant)), converted(variant)
        return replace(VideoRequest(task, model, checkpoint, sample, tmp_path / "out.mkv", SAMPLING, "cpu"), **changes)

    return make


@pytest.mark.parametrize(
    ("variant", "task", "files", "scheme"),
    [
        ("t2v", "t2v", [], "int8"),
        ("t2v", "t2v", [], "fp8"),
        ("t2v-2.2", "t2v", [], "int8"),
        ("t2v-distilled", "t2v", [], "int8"),
        ("i2v", "i2v", [], "int8"),
        ("i2v", "i2v", [], "fp8"),
        ("i2v-2.2", "i2v", [], "int8"),
        ("i2v-2.2", "i2v", ["last_image"], "fp8"),
        ("flf2v", "i2v", ["last_image"], "int8"),
        ("ti2v-5b", "t2v", [], "int8"),
        ("ti2v-5b", "i2v", [], "fp8"),
        ("vace", "vace", ["reference_images", "video", "mask"], "int8"),
    ],
)
def test_makes_the_video_of_the_model(
    make_request: MakeRequest,
    converted: Folder,
    tmp_path: Path,
    variant: str,
    task: Task,
    files: list[str],
    scheme: str,
) -> None:
    (drawn,) = read_samples(write_samples(tmp_path / "samples", 1, with_images=True), ModelInputs(optional=FILES))
    checkpoint = converted(variant, scheme, smooth=True)
    request = make_request(variant, task, checkpoint=checkpoint, **{key: getattr(drawn, key) for key in files})
    outcome = generate(request)
    frames = read_video(request.output)
    pipeline = VideoPipeline(request.model, "cpu")
    full = pipeline.sample(pipeline.encode([request.sample], SAMPLING)[0], SAMPLING, SAMPLING.seed)
    assert (*outcome.shape, 3) == frames.shape == full.shape
    assert list(outcome.stages) == ["encode", "load", "sample", "decode", "write"]
    assert outcome.step_seconds is not None
    error = np.square(frames.astype(float) - full).mean()
    assert 0 < error < 255**2 / 10**2.5  # 25 dB


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where anything is encoded or loaded."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(VideoPipeline, "encode", fail)
    monkeypatch.setattr("vq_infer.engine.loader.load_transformer", fail)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("variant", "task", "changes", "sentence"),
    [
        ("flf2v", "i2v", {}, "needs a first and a last frame: add --last-image"),
        ("i2v", "i2v", {"last_image": Path("image.png")}, "takes a first frame only: leave --last-image out"),
        ("i2v", "t2v", {}, "makes videos from images: use `vq-infer i2v`"),
        ("t2v", "i2v", {}, "makes videos from text alone: use `vq-infer t2v`"),
        ("vace", "t2v", {}, "takes videos, masks and references: use `vq-infer vace`"),
        ("t2v", "vace", {}, "is not a VACE model: use `vq-infer t2v`"),
        ("i2v", "vace", {}, "is not a VACE model: use `vq-infer i2v`"),
        ("i2v", "i2v", {"image": Path("nowhere.png")}, r"The image .*nowhere\.png is missing"),
        ("i2v", "i2v", {"image": Path("text.txt")}, "is not an image that can be decoded"),
        ("t2v", "t2v", {"output": Path("text.mkv")}, r"text\.mkv exists already"),
        ("t2v", "t2v", {"output": Path("out.gif")}, r"out\.gif is not a video format .* \.mp4 or \.mkv"),
        ("t2v", "t2v", {"device": "cuda:99"}, "`cuda:99` is not in this machine"),
        ("t2v", "t2v", {"sampling": replace(SAMPLING, height=100)}, "height 100 is not a multiple of 16: use 96 or"),
        ("i2v", "i2v", {"sampling": replace(SAMPLING, height=100)}, "height 100 is not a multiple of 16: use 96 or"),
        ("t2v", "t2v", {"sampling": replace(SAMPLING, num_frames=6)}, "num_frames 6 is not 4k"),
        ("t2v", "t2v", {"settings": EngineSettings(attention="sage")}, "--attention sage: SageAttention needs a GPU"),
        ("t2v", "t2v", {"settings": EngineSettings(offload="block")}, "leave it out with --device cpu"),
        ("t2v", "t2v", {"settings": EngineSettings(parallel=ParallelPlan(ulysses=2))}, "among 2 processes"),
    ],
)
def test_what_cannot_be_made_is_refused_before_a_weight_is_read(
    make_request: MakeRequest, tmp_path: Path, variant: str, task: Task, changes: dict[str, Any], sentence: str
) -> None:
    for name in ("text.txt", "text.mkv"):
        (tmp_path / name).write_text("text")
    located = {key: tmp_path / value if isinstance(value, Path) else value for key, value in changes.items()}
    with pytest.raises(VqError, match=sentence):
        generate(make_request(variant, task, **located))


@pytest.mark.usefixtures("unread")
def test_other_models_and_too_little_memory_are_refused_before_a_weight_is_read(
    make_request: MakeRequest, converted: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VqError, match="made from another model"):
        generate(make_request("ti2v-5b", checkpoint=converted("t2v")))
    monkeypatch.setattr("vq_infer.memory.plan.free_bytes", lambda _: 2**20)
    with pytest.raises(VqError, match=r"cpu has 0\.0 GiB free and this video needs about 1\.\d GiB"):
        generate(make_request("t2v"))


def test_a_model_of_the_same_shape_is_refused(make_request: MakeRequest, tiny_model: Folder, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "other")
    file = sorted((model / "transformer").glob("*.safetensors"))[0]
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(VqError, match=f"was made from {tiny_model('t2v')}, and {model} is another model"):
        generate(make_request("t2v", model=str(model)))


def test_own_transformer_weights_are_not_needed(make_request: MakeRequest, tiny_model: Folder, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "without_weights")
    for file in (model / "transformer").glob("*safetensors*"):
        file.unlink()
    assert generate(make_request("t2v", model=str(model))).output.exists()


def test_old_gpus(make_request: MakeRequest, converted: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request("t2v", checkpoint=converted("t2v", "fp8"), device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    with pytest.raises(VqError, match=r"capability 8\.6 and FP8 needs 8\.9: convert the model with --scheme int8"):
        generate(request)


def test_the_video_is_the_same_with_one_expert_at_a_time(make_request: MakeRequest) -> None:
    request = make_request("t2v-2.2", sampling=replace(SAMPLING, steps=4))
    in_turns = generate(request)
    assert in_turns.memory is not None
    assert in_turns.memory.startswith("transformers and VAE in turns")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vq_infer.memory.plan.require_plan", lambda *_, **__: MemoryPlan())
        together = generate(replace(request, output=request.output.with_name("together.mkv")))
    assert np.array_equal(read_video(in_turns.output), read_video(together.output))


def test_a_cached_run_says_what_it_saved(make_request: MakeRequest) -> None:
    sampling = replace(SAMPLING, steps=5, guidance_scale=1.0)
    settings = EngineSettings(cache=CacheChoice("taylorseer", 2))
    outcome = generate(make_request("t2v-distilled", sampling=sampling, settings=settings))
    # Without guidance there is one pass a step; three warm up, then every second is computed.
    assert outcome.passes == (5, 4)
    assert outcome.rows()["cache"] == "4 of 5 passes computed"


def test_failure_leaves_no_video(make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:  # a signal in the middle of the run
        raise KeyboardInterrupt

    request = make_request("t2v")
    before = set(request.output.parent.iterdir())
    monkeypatch.setattr(VideoPipeline, "sample", fail)
    with pytest.raises(KeyboardInterrupt):
        generate(request)
    assert set(request.output.parent.iterdir()) == before
