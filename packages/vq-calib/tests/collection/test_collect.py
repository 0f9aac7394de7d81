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
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_calib.collection.collect import Collected, finished_before
from vq_calib.collection.collect import collect as collect_request
from vq_calib.planning.run_plan import CollectRequest
from vq_core.artifacts.stats import open_stats
from vq_core.errors import VqError
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.store.resumable_folder import partial_folder
from vq_core.testing.tiny_models import Variant

TinyModel = Callable[[Variant], Path]
StartCode = Callable[[str], Any]
Record = Callable[..., dict[tuple[str, str], list[Any]]]


def collect(
    model: str, prompts: Path, output: Path, sampling: Sampling, *, device: str | None = None, resume: bool = False
) -> Collected:
    return collect_request(CollectRequest(model, prompts, sampling, device=device), output, resume=resume)


def _tensors(artifact: Path) -> dict[str, Tensor]:
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted(artifact.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def _assert_same(a: Path, b: Path) -> None:
    ours, theirs = _tensors(a), _tensors(b)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.fixture(scope="module")
def whole(tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of the text-to-video model over all prompts, uninterrupted."""
    output = tmp_path_factory.mktemp("whole") / "stats"
    collect(str(tiny_model("t2v")), prompts, output, sampling, device="cpu")
    return output


def test_a_second_run_gives_the_same_bits(
    whole: Path, tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    result = collect(str(tiny_model("t2v")), prompts, tmp_path / "stats", sampling, device="cpu")
    _assert_same(tmp_path / "stats", whole)
    assert open_stats(tmp_path / "stats").artifact.digest == open_stats(whole).artifact.digest
    assert (result.prompts, result.resumed_prompts) == (3, 0)
    assert result.step_seconds is not None
    assert result.step_seconds > 0
    # 3 prompts, 4 steps, 2 branches; 2 latent frames of 4 × 4 patches.
    assert result.tokens == {"transformer": 3 * 4 * 2 * 2 * 4 * 4}
    assert sorted(path.name for path in (tmp_path / "stats").iterdir()) == ["manifest.json", "transformer"]


def test_the_manifest_says_what_was_run(whole: Path, sampling: Sampling) -> None:
    manifest = open_stats(whole).artifact.manifest
    settings = manifest.settings
    assert manifest.tool.startswith("vq-calib ")
    assert settings.keys() == {
        "prompts", "total_prompts", "prompts_sha256", "parts", "tokens", "steps",
        "height", "width", "num_frames", "guidance_scale", "guidance_scale_2",
        "seed", "buckets", "dtype", "device", "reduction", "torch", "diffusers",
    }  # fmt: skip
    assert (settings["total_prompts"], settings["steps"], settings["seed"]) == (3, sampling.steps, sampling.seed)
    assert (settings["tokens"], settings["parts"]) == (256, None)
    entries: Any = settings["prompts"]
    assert [(entry["index"], entry["seed"], entry["split"]) for entry in entries] == [
        (0, 42, "fit"), (1, 43, "fit"), (2, 44, "held-out"),
    ]  # fmt: skip
    assert len({entry["sha256"] for entry in entries}) == 3
    assert (settings["dtype"], settings["device"], settings["reduction"]) == ("float32", "cpu", "eager")


def test_killed_and_resumed_gives_the_same_bits(
    whole: Path, tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path, start_code: StartCode
) -> None:
    model, output = tiny_model("t2v"), tmp_path / "stats"
    command = ["vq-calib", "collect", "--device", "cpu"]
    command += ["--model", str(model), "--prompts", str(prompts), "-o", str(output), "--steps", str(sampling.steps)]
    command += ["--height", "64", "--width", "64", "--num-frames", "5"]
    child = start_code(f"import sys\nfrom vq_calib.cli import main\nsys.argv = {command}\nmain()")
    while child.process.is_alive() and not (partial_folder(output) / "totals-1").exists():
        time.sleep(0.002)
    child.process.kill()
    assert child.ended(60) == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(VqError, match="--resume"):
        collect(str(model), prompts, output, sampling, device="cpu")
    result = collect(str(model), prompts, output, sampling, device="cpu", resume=True)
    assert 1 <= result.resumed_prompts <= 3
    _assert_same(output, whole)
    assert open_stats(output).artifact.digest == open_stats(whole).artifact.digest


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
    steps: int, whole: Path, tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    model, output = str(tiny_model("t2v")), tmp_path / "stats"
    with pytest.MonkeyPatch.context() as patched:
        _kill_in_step(patched, steps)
        with pytest.raises(Killed):
            collect(model, prompts, output, sampling, device="cpu")
    result = collect(model, prompts, output, sampling, device="cpu", resume=True)
    assert result.resumed_prompts == steps // sampling.steps
    _assert_same(output, whole)


def test_killed_between_the_last_prompt_and_the_manifest(
    whole: Path,
    tiny_model: TinyModel,
    prompts: Path,
    sampling: Sampling,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, output = str(tiny_model("t2v")), tmp_path / "stats"

    def commit(self: object, final: Path) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vq_core.store.writer.ArtifactWriter.commit", commit)
        with pytest.raises(Killed):
            collect(model, prompts, output, sampling, device="cpu")
    # Nothing is left to run, so no part of the model may be loaded.
    monkeypatch.setattr(VideoPipeline, "encode", None)
    result = collect(model, prompts, output, sampling, device="cpu", resume=True)
    assert (result.resumed_prompts, result.step_seconds) == (3, None)
    _assert_same(output, whole)


def test_a_run_with_other_settings_is_not_resumed(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    model, output = str(tiny_model("t2v")), tmp_path / "stats"
    with pytest.MonkeyPatch.context() as patched:
        _kill_in_step(patched, 1)
        with pytest.raises(Killed):
            collect(model, prompts, output, sampling, device="cpu")
    with pytest.raises(VqError, match="was begun with other settings"):
        collect(model, prompts, output, replace(sampling, seed=7), device="cpu", resume=True)
    edited = shutil.copytree(prompts, tmp_path / "edited")
    samples = json.loads((edited / "samples.json").read_text())
    samples[1]["prompt"] += "!"
    (edited / "samples.json").write_text(json.dumps(samples))
    with pytest.raises(VqError, match="was begun with other settings"):
        collect(model, edited, output, sampling, device="cpu", resume=True)


def test_without_guidance_there_is_no_unconditional_branch(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    collect(str(tiny_model("t2v")), prompts, tmp_path / "stats", replace(sampling, guidance_scale=1.0), device="cpu")
    stats = open_stats(tmp_path / "stats")
    for group in stats.groups("transformer"):
        counts = stats.group("transformer", group).count.sum(dim=0)
        assert counts[0] > 0
        assert counts[1] == 0


def _assert_nothing_is_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if path.name.startswith("stats")] == []


def test_nan_in_a_weight_names_the_first_input_that_has_it(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "model")
    name = "blocks.1.attn1.to_v.weight"
    for path in (model / "transformer").glob("*.safetensors"):
        tensors = load_file(path)
        if name in tensors:
            tensors[name][3, 5] = torch.nan
            save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(VqError) as refused:
        collect(str(model), prompts, tmp_path / "stats", sampling, device="cpu")
    assert str(refused.value) == (
        "The input of blocks.1.attn1.out (`blocks.1.attn1.to_out.0`) in transformer, prompt 0, holds NaN or Inf in 64 "
        "rows at sigma 0.999 (bucket 7): look for such values in the weights before it."
    )
    _assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("bad", [0, 2])
def test_nan_in_a_later_prompt_keeps_the_prompts_before_it(
    bad: int,
    whole: Path,
    tiny_model: TinyModel,
    prompts: Path,
    sampling: Sampling,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, output, denoise = str(tiny_model("t2v")), tmp_path / "stats", VideoPipeline.denoise

    def poisoned(self: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, on_step: Any) -> None:
        steps = iter(range(sampling.steps))

        def step() -> None:
            if seed == sampling.seed + bad and next(steps) == 2:  # one bucket is on the disk by then
                next(iter(self.transformers.values())).blocks[1].attn1.to_v.weight.data[3, 5] = torch.nan
            on_step()

        denoise(self, conditions, sampling, seed, step)

    with monkeypatch.context() as patch, pytest.raises(VqError) as refused:
        patch.setattr(VideoPipeline, "denoise", poisoned)
        collect(model, prompts, output, sampling, device="cpu")
    sentence = str(refused.value)
    assert f"blocks.1.attn1.out (`blocks.1.attn1.to_out.0`) in transformer, prompt {bad}, holds NaN" in sentence
    if bad == 0:
        assert "What is finished" not in sentence
        _assert_nothing_is_left(tmp_path)
        return
    assert f"What is finished lies in {partial_folder(output)}: mend the cause and run" in sentence
    assert collect(model, prompts, output, sampling, device="cpu", resume=True).resumed_prompts == bad
    _assert_same(output, whole)


def test_too_few_steps_for_an_expert_are_refused_before_anything_runs(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoPipeline, "encode", None)
    with pytest.raises(VqError, match=r"transformer_2 is never called: 1 steps .*raise --steps"):
        collect(str(tiny_model("i2v-2.2")), prompts, tmp_path / "stats", replace(sampling, steps=1), device="cpu")
    _assert_nothing_is_left(tmp_path)


def test_bad_input_is_refused_before_anything_is_written(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    model, output = str(tiny_model("i2v")), tmp_path / "stats"
    without_images = tmp_path / "samples.json"
    without_images.write_text('[{"prompt": "a red kite"}]')
    for arguments, message in (
        ((str(tmp_path / "no-model"), prompts, output, sampling), "neither a folder nor a hub id"),
        ((model, tmp_path / "no-prompts.json", output, sampling), "no-prompts.json is missing"),
        ((model, without_images, output, sampling), "starts from an image"),
        ((model, prompts, output, replace(sampling, height=100)), "height 100 is not a multiple of 16"),
        ((f"{model}/transformer", prompts, output, sampling), "model_index.json is missing"),
    ):
        with pytest.raises(VqError, match=message):
            collect(*arguments, device="cpu")
    with pytest.raises(VqError, match="cuda:99"):
        collect(model, prompts, output, sampling, device="cuda:99")
    _assert_nothing_is_left(tmp_path)


def test_an_output_that_exists_is_refused(
    tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    (tmp_path / "stats").mkdir()
    with pytest.raises(VqError, match="stats exists already"):
        collect(str(tiny_model("t2v")), prompts, tmp_path / "stats", sampling, device="cpu")


def test_what_was_finished_before_is_known_by_its_settings(
    whole: Path, tiny_model: TinyModel, prompts: Path, sampling: Sampling, tmp_path: Path
) -> None:
    request = CollectRequest(str(tiny_model("t2v")), prompts, sampling, device="cpu")
    found = finished_before(request, whole)
    assert found is not None
    assert (found.prompts, found.resumed_prompts, found.sampled) == (
        3,
        3,
        {"transformer": {"fit": 258, "held-out": 66}},
    )
    assert finished_before(request, tmp_path / "nothing") is None
    for other in (replace(request, tokens=8), replace(request, model=str(tiny_model("ti2v-5b")))):
        with pytest.raises(VqError, match="was collected otherwise than is asked for now"):
            finished_before(other, whole)
