import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_calib.collection.collect import collect, finished_before
from vq_calib.planning.run_plan import CollectRequest
from vq_core.artifacts.stats import open_stats
from vq_core.errors import VqError
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.store.resumable_folder import partial_folder

StartCode = Callable[[str], Any]
MakeRequest = Callable[..., CollectRequest]
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def request_(make_request: MakeRequest) -> CollectRequest:
    return make_request()


@pytest.fixture(scope="module")
def whole(request_: CollectRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The statistics of an uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "stats"
    collect(request_, output)
    return output


def test_a_second_run_gives_the_same_bits(
    whole: Path, request_: CollectRequest, contents: Contents, tmp_path: Path
) -> None:
    result = collect(request_, tmp_path / "stats")
    assert contents(tmp_path / "stats") == contents(whole)
    assert (result.prompts, result.resumed_prompts) == (3, 0)
    assert result.step_seconds is not None
    assert result.step_seconds > 0
    # 3 prompts, 4 steps, 2 branches; 2 latent frames of 4 × 4 patches.
    assert result.tokens == {"transformer": 3 * 4 * 2 * 2 * 4 * 4}
    assert sorted(path.name for path in (tmp_path / "stats").iterdir()) == ["manifest.json", "transformer"]


def test_the_manifest_records_the_run(whole: Path, request_: CollectRequest) -> None:
    manifest = open_stats(whole).artifact.manifest
    settings = manifest.settings
    assert manifest.tool.startswith("vq-calib ")
    assert settings.keys() == {
        "prompts", "total_prompts", "prompts_sha256", "parts", "tokens", "steps",
        "height", "width", "num_frames", "guidance_scale", "guidance_scale_2", "flow_shift", "boundary_ratio",
        "seed", "buckets", "dtype", "device", "reduction", "torch", "diffusers",
    }  # fmt: skip
    sampling = request_.sampling
    assert (settings["total_prompts"], settings["steps"], settings["seed"]) == (3, sampling.steps, sampling.seed)
    assert (settings["tokens"], settings["parts"]) == (256, None)
    assert (settings["flow_shift"], settings["boundary_ratio"]) == (3.0, None)
    entries: Any = settings["prompts"]
    assert [(entry["index"], entry["seed"], entry["split"]) for entry in entries] == [
        (0, 42, "fit"), (1, 43, "fit"), (2, 44, "held-out"),
    ]  # fmt: skip
    assert len({entry["sha256"] for entry in entries}) == 3
    assert (settings["dtype"], settings["device"], settings["reduction"]) == ("float32", "cpu", "eager")


def test_killed_and_resumed_gives_the_same_bits(
    whole: Path, request_: CollectRequest, contents: Contents, tmp_path: Path, start_code: StartCode
) -> None:
    output = tmp_path / "stats"
    command = ["vq-calib", "collect", "--device", "cpu", "--model", request_.model]
    command += ["--prompts", str(request_.prompts), "-o", str(output), "--steps", str(request_.sampling.steps)]
    command += ["--height", "64", "--width", "64", "--num-frames", "5"]
    child = start_code(f"import sys\nfrom vq_calib.cli import main\nsys.argv = {command}\nmain()")
    while child.process.is_alive() and not (partial_folder(output) / "totals-1").exists():
        time.sleep(0.002)
    child.process.kill()
    assert child.ended(60) == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(VqError, match="--resume"):
        collect(request_, output)
    assert 1 <= collect(request_, output, resume=True).resumed_prompts <= 3
    assert contents(output) == contents(whole)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def _kill_in_step(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    taken = iter(range(steps))
    denoise = VideoPipeline.denoise

    def killed(
        self: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, on_step: Callable[[], None]
    ) -> None:
        def step() -> None:
            if next(taken, None) is None:
                raise Killed
            on_step()

        denoise(self, conditions, sampling, seed, step)

    monkeypatch.setattr(VideoPipeline, "denoise", killed)


@pytest.mark.parametrize("steps", [2, 9])
def test_killed_within_a_prompt_and_resumed_gives_the_same_bits(
    steps: int, whole: Path, request_: CollectRequest, contents: Contents, tmp_path: Path
) -> None:
    output = tmp_path / "stats"
    with pytest.MonkeyPatch.context() as patched:
        _kill_in_step(patched, steps)
        with pytest.raises(Killed):
            collect(request_, output)
    assert collect(request_, output, resume=True).resumed_prompts == steps // request_.sampling.steps
    assert contents(output) == contents(whole)


@pytest.mark.parametrize(
    "last", ["vq_calib.collection.totals.Totals.finish", "vq_core.store.writer.ArtifactWriter.commit"]
)
def test_killed_between_the_last_prompt_and_the_manifest(
    last: str,
    whole: Path,
    request_: CollectRequest,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "stats"

    def killed(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(last, killed)
        with pytest.raises(Killed):
            collect(request_, output)
    # Nothing is left to run, so no part of the model may be loaded.
    monkeypatch.setattr(VideoPipeline, "encode", None)
    result = collect(request_, output, resume=True)
    assert (result.resumed_prompts, result.step_seconds) == (3, None)
    assert contents(output) == contents(whole)


def test_a_run_with_other_settings_is_not_resumed(request_: CollectRequest, tmp_path: Path) -> None:
    output = tmp_path / "stats"
    with pytest.MonkeyPatch.context() as patched:
        _kill_in_step(patched, 1)
        with pytest.raises(Killed):
            collect(request_, output)
    edited = shutil.copytree(request_.prompts, tmp_path / "edited")
    samples = json.loads((edited / "samples.json").read_text())
    samples[1]["prompt"] += "!"
    (edited / "samples.json").write_text(json.dumps(samples))
    for other in (replace(request_, sampling=replace(request_.sampling, seed=7)), replace(request_, prompts=edited)):
        with pytest.raises(VqError, match="was begun with other settings"):
            collect(other, output, resume=True)


def test_without_guidance_there_is_no_unconditional_branch(make_request: MakeRequest, tmp_path: Path) -> None:
    collect(make_request(guidance_scale=1.0), tmp_path / "stats")
    stats = open_stats(tmp_path / "stats")
    for group in stats.groups("transformer"):
        counts = stats.group("transformer", group).count.sum(dim=0)
        assert counts[0] > 0
        assert counts[1] == 0


def _assert_nothing_is_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if path.name.startswith("stats")] == []


@pytest.mark.parametrize("bad", [0, 2])
def test_nan_names_the_first_input_that_holds_it_and_keeps_the_prompts_before_it(
    bad: int,
    whole: Path,
    request_: CollectRequest,
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, denoise = tmp_path / "stats", VideoPipeline.denoise

    def poisoned(self: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, on_step: Any) -> None:
        steps = iter(range(sampling.steps))

        def step() -> None:
            if seed == sampling.seed + bad and next(steps) == 2:  # one bucket is on the disk by then
                next(iter(self.transformers.values())).blocks[1].attn1.to_v.weight.data[3, 5] = torch.nan
            on_step()

        denoise(self, conditions, sampling, seed, step)

    with monkeypatch.context() as patch, pytest.raises(VqError) as refused:
        patch.setattr(VideoPipeline, "denoise", poisoned)
        collect(request_, output)
    sentence = (
        f"The input of blocks.1.attn1.out (`blocks.1.attn1.to_out.0`) in transformer, prompt {bad}, holds NaN or Inf "
        "in 64 rows at sigma 0.500 (bucket 4): look for such values in the weights before it."
    )
    if bad == 0:
        assert str(refused.value) == sentence
        _assert_nothing_is_left(tmp_path)
        return
    assert str(refused.value).startswith(
        f"{sentence} What is finished lies in {partial_folder(output)}: mend the cause and run"
    )
    assert collect(request_, output, resume=True).resumed_prompts == bad
    assert contents(output) == contents(whole)


def test_bad_input_is_refused_before_anything_runs_or_is_written(
    make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoPipeline, "encode", None)
    request = make_request("i2v")
    without_images = tmp_path / "samples.json"
    without_images.write_text('[{"prompt": "a red kite"}]')
    for bad, message in (
        (replace(request, model=str(tmp_path / "no-model")), "neither a folder nor a hub id"),
        (replace(request, model=f"{request.model}/transformer"), "model_index.json is missing"),
        (replace(request, prompts=tmp_path / "no-prompts.json"), "no-prompts.json is missing"),
        (replace(request, prompts=without_images), "starts from an image"),
        (replace(request, device="cuda:99"), "cuda:99"),
        (make_request("i2v", height=100), "height 100 is not a multiple of 16"),
        (make_request("i2v-2.2", steps=1), r"transformer_2 is never called: 1 steps .*raise --steps"),
    ):
        with pytest.raises(VqError, match=message):
            collect(bad, tmp_path / "stats")
    _assert_nothing_is_left(tmp_path)
    (tmp_path / "stats").mkdir()
    with pytest.raises(VqError, match="stats exists already"):
        collect(request, tmp_path / "stats")


def test_what_was_finished_before_is_recognized_by_its_settings(
    whole: Path, make_request: MakeRequest, tmp_path: Path
) -> None:
    found = finished_before(make_request(), whole)
    assert found is not None
    assert (found.prompts, found.resumed_prompts) == (3, 3)
    assert found.sampled == {"transformer": {"fit": 258, "held-out": 66}}
    assert finished_before(make_request(), tmp_path / "nothing") is None
    for other in (make_request(tokens=8), make_request("ti2v-5b")):
        with pytest.raises(VqError, match="was collected with other settings: remove it, or run the command that"):
            finished_before(other, whole)
