"""The native engine end to end, and what it refuses before it spends time."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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

TinyModel = Callable[[str], Path]
Convert = Callable[..., Path]
MakeRequest = Callable[..., VideoRequest]
SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)


@pytest.fixture
def make_request(tmp_path: Path, image: Path) -> MakeRequest:
    def make(
        model: Path,
        checkpoint: Path,
        task: Task = "t2v",
        *,
        output: str = "out.mkv",
        device: str | None = "cpu",
        sampling: Sampling = SAMPLING,
        first_frame: Path = image,
        **files: Any,
    ) -> VideoRequest:
        sample = Sample("a fox in fresh snow", "blurred", first_frame if task == "i2v" else None, **files)
        return VideoRequest(task, str(model), checkpoint, sample, tmp_path / output, sampling, device)

    return make


@pytest.mark.parametrize(
    ("variant", "task", "size"),
    # The image is 96x64: the area of 64x64 in its aspect, in multiples of 16.
    [("t2v", "t2v", (64, 64)), ("i2v", "i2v", (48, 64)), ("i2v-2.2", "i2v", (48, 64)), ("ti2v-5b", "t2v", (64, 64))],
)
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_makes_the_video_of_the_model(
    tiny_model: TinyModel,
    convert: Convert,
    make_request: MakeRequest,
    variant: str,
    task: Task,
    size: tuple[int, int],
    scheme: str,
) -> None:
    model = tiny_model(variant)
    request = make_request(model, convert(model, scheme, smooth=True), task)
    outcome = generate(request)
    frames = read_video(request.output)
    assert frames.shape == (5, *size, 3)
    assert outcome.shape == (5, *size)
    assert list(outcome.stages) == ["encode", "load", "sample", "decode", "write"]
    assert outcome.step_seconds is not None
    pipeline = VideoPipeline(str(model), "cpu")
    full = pipeline.sample(pipeline.encode([request.sample], SAMPLING)[0], SAMPLING, SAMPLING.seed)
    error = np.square(frames.astype(float) - full).mean()
    assert 0 < error < 255**2 / 10**2.5  # 25 dB


def test_is_repeatable(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    model = tiny_model("t2v")
    checkpoint = convert(model)
    first, second = (make_request(model, checkpoint, output=name) for name in ("a.mkv", "b.mkv"))
    generate(first)
    generate(second)
    assert np.array_equal(read_video(first.output), read_video(second.output))


@pytest.mark.parametrize(
    ("variant", "task", "files"),
    [
        ("flf2v", "i2v", {"last_image"}),
        ("i2v-2.2", "i2v", {"last_image"}),
        ("ti2v-5b", "i2v", set()),
        ("vace", "vace", {"reference_images", "video", "mask"}),
        ("t2v-2.2", "t2v", set()),
        ("t2v-distilled", "t2v", set()),
    ],
)
def test_makes_the_video_of_every_wan(
    tiny_model: TinyModel,
    convert: Convert,
    make_request: MakeRequest,
    tmp_path: Path,
    variant: str,
    task: Task,
    files: set[str],
) -> None:
    model = tiny_model(variant)
    (drawn,) = read_samples(write_samples(tmp_path / "samples", 1, with_images=True), ModelInputs(optional=FILES))
    request = make_request(model, convert(model, smooth=True), task, **{key: getattr(drawn, key) for key in files})
    generate(request)
    frames = read_video(request.output)
    pipeline = VideoPipeline(str(model), "cpu")
    full = pipeline.sample(pipeline.encode([request.sample], SAMPLING)[0], SAMPLING, SAMPLING.seed)
    assert frames.shape == full.shape
    error = np.square(frames.astype(float) - full).mean()
    assert 0 < error < 255**2 / 10**2.5  # 25 dB


@pytest.mark.parametrize(
    ("variant", "task", "files", "sentence"),
    [
        ("flf2v", "i2v", {}, "goes from a first frame to a last: give --last-image"),
        ("i2v", "i2v", {"last_image": True}, "goes on from a first frame alone: leave --last-image out"),
        ("vace", "t2v", {}, "is steered by videos, masks and references: use `vq-infer vace`"),
        ("t2v", "vace", {}, "is no VACE model: use `vq-infer t2v`"),
        ("i2v", "vace", {}, "is no VACE model: use `vq-infer i2v`"),
    ],
)
def test_files_that_do_not_fit_the_model(
    tiny_model: TinyModel,
    convert: Convert,
    make_request: MakeRequest,
    image: Path,
    variant: str,
    task: Task,
    files: dict[str, bool],
    sentence: str,
) -> None:
    request = make_request(tiny_model(variant), convert(tiny_model(variant)), task, **dict.fromkeys(files, image))
    with pytest.raises(VqError, match=sentence):
        generate(request)


def test_own_transformer_weights_are_not_needed(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, tmp_path: Path
) -> None:
    checkpoint = convert(tiny_model("t2v"))
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "without_weights")
    for file in (model / "transformer").glob("*safetensors*"):
        file.unlink()
    assert generate(make_request(model, checkpoint)).output.exists()


def test_output_exists(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, tmp_path: Path) -> None:
    (tmp_path / "out.mkv").touch()
    with pytest.raises(VqError, match=r"out\.mkv exists already"):
        generate(make_request(tiny_model("t2v"), convert(tiny_model("t2v"))))


def test_output_of_another_format(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    with pytest.raises(VqError, match=r"out\.gif is not a video format .* \.mp4 or \.mkv"):
        generate(make_request(tiny_model("t2v"), convert(tiny_model("t2v")), output="out.gif"))


def test_not_a_checkpoint(tiny_model: TinyModel, make_request: MakeRequest) -> None:
    with pytest.raises(VqError, match="is not a lightx2v-checkpoint artifact"):
        generate(make_request(tiny_model("t2v"), tiny_model("t2v")))


def test_truncated_shard(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    checkpoint = convert(tiny_model("t2v"))
    shard = checkpoint / "block_0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(VqError, match=r"block_0\.safetensors has \d+ bytes and should have \d+"):
        generate(make_request(tiny_model("t2v"), checkpoint))


def test_no_such_gpu(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    with pytest.raises(VqError, match="`cuda:99` is not in this machine"):
        generate(make_request(tiny_model("t2v"), convert(tiny_model("t2v")), device="cuda:99"))


def test_image_model_without_image(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    with pytest.raises(VqError, match="makes videos from images: use `vq-infer i2v`"):
        generate(make_request(tiny_model("i2v"), convert(tiny_model("i2v"))))


def test_text_model_with_image(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    with pytest.raises(VqError, match="makes videos from text alone: use `vq-infer t2v`"):
        generate(make_request(tiny_model("t2v"), convert(tiny_model("t2v")), "i2v"))


def test_image_missing(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"The image .*nowhere\.png is missing"):
        generate(
            make_request(tiny_model("i2v"), convert(tiny_model("i2v")), "i2v", first_frame=tmp_path / "nowhere.png")
        )


def test_image_that_is_none(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    text = tiny_model("i2v") / "model_index.json"
    with pytest.raises(VqError, match="is not an image that can be decoded"):
        generate(make_request(tiny_model("i2v"), convert(tiny_model("i2v")), "i2v", first_frame=text))


@pytest.mark.parametrize("variant", ["t2v", "i2v"])
def test_height_100(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, variant: Task) -> None:
    sampling = Sampling(steps=2, height=100, width=64, num_frames=5)
    with pytest.raises(VqError, match="height 100 is not a multiple of 16: use 96 or 112"):
        generate(make_request(tiny_model(variant), convert(tiny_model(variant)), variant, sampling=sampling))


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where anything is encoded or loaded."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(VideoPipeline, "encode", fail)
    monkeypatch.setattr("vq_infer.engine.loader.load_transformer", fail)


@pytest.mark.usefixtures("unread")
def test_what_can_be_refused_is_before_a_weight_is_read(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("t2v")
    request = make_request(model, convert(model))
    with pytest.raises(VqError, match="`cuda:99` is not in this machine"):
        generate(replace(request, device="cuda:99"))
    with pytest.raises(VqError, match="--attention sage: SageAttention needs a GPU"):
        generate(replace(request, settings=EngineSettings(attention="sage")))
    with pytest.raises(VqError, match="leave it out with --device cpu"):
        generate(replace(request, settings=EngineSettings(offload="block")))
    with pytest.raises(VqError, match="num_frames 6 is not 4k"):
        generate(replace(request, sampling=replace(SAMPLING, num_frames=6)))
    with pytest.raises(VqError, match="made from another model"):
        generate(make_request(tiny_model("ti2v-5b"), request.checkpoint))
    monkeypatch.setattr("vq_infer.memory.plan.free_bytes", lambda _: 2**20)
    with pytest.raises(VqError, match=r"cpu has 0\.0 GiB free and this video needs about 1\.\d GiB"):
        generate(request)


def test_old_gpus(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("t2v")
    request = make_request(model, convert(model, "fp8"), device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    with pytest.raises(VqError, match=r"capability 8\.6 and FP8 needs 8\.9: convert the model with --scheme int8"):
        generate(request)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(VqError, match=r"capability 7\.5 and 8\.0 is needed: use --device cpu"):
        generate(request)


def test_the_video_is_the_same_with_one_expert_at_a_time(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest
) -> None:
    model = tiny_model("t2v-2.2")
    sampling = replace(SAMPLING, steps=4)
    request = make_request(model, convert(model), sampling=sampling)
    in_turns = generate(request)
    assert in_turns.memory is not None
    assert in_turns.memory.startswith("transformers and VAE in turns")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vq_infer.memory.plan.require_plan", lambda *_, **__: MemoryPlan())
        together = generate(replace(request, output=request.output.with_name("together.mkv")))
    assert np.array_equal(read_video(in_turns.output), read_video(together.output))


def test_a_cached_run_says_what_it_saved(tiny_model: TinyModel, convert: Convert, make_request: MakeRequest) -> None:
    model = tiny_model("t2v-distilled")
    sampling = replace(SAMPLING, steps=5, guidance_scale=1.0)
    settings = EngineSettings(cache=CacheChoice("taylorseer", 2))
    outcome = generate(replace(make_request(model, convert(model), sampling=sampling), settings=settings))
    # Without guidance there is one pass a step; three warm up, then every second is computed.
    assert outcome.passes == (5, 4)
    assert outcome.rows()["cache"] == "4 of 5 passes computed"


def test_failure_leaves_no_video(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:  # a signal in the middle of the run
        raise KeyboardInterrupt

    request = make_request(tiny_model("t2v"), convert(tiny_model("t2v")))
    before = set(request.output.parent.iterdir())
    monkeypatch.setattr(VideoPipeline, "sample", fail)
    with pytest.raises(KeyboardInterrupt):
        generate(request)
    assert set(request.output.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (ParallelPlan(ulysses=2), r"--ulysses 2, --ring 1 share a video among 2 processes and there are 1"),
        (ParallelPlan(guidance=True), r"and --cfg-parallel share a video among 2 processes and there are 1"),
    ],
)
def test_processes_that_are_not_there(
    tiny_model: TinyModel, convert: Convert, make_request: MakeRequest, plan: ParallelPlan, sentence: str
) -> None:
    model = tiny_model("t2v")
    request = replace(make_request(model, convert(model)), settings=EngineSettings(parallel=plan))
    with pytest.raises(VqError, match=sentence):
        generate(request)
