"""Which videos are made, and that they are those of the variants."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.errors import VqError
from vq_core.media.video import read_video
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import open_source
from vq_core.recipes.ignored import IgnoreRule
from vq_core.recipes.recipe import Variant as Candidate
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import SAMPLES_FILE
from vq_core.store.reader import open_artifact
from vq_core.testing.tiny_models import FFN_DIM, INNER_DIM, Variant
from vq_eval.videos.fake_quant import Made, open_candidates
from vq_eval.videos.fake_quant_linear import FakeQuantLinear

ALL: tuple[Candidate, ...] = ("full", "smoothed", "fake-quant")

Artifacts = Callable[[Variant], tuple[Path, Path]]
MakeJob = Callable[[Variant], Any]


def psnr_db(reference: Path, candidate: Path) -> float:
    error = read_video(reference).astype(float) - read_video(candidate).astype(float)
    return 10 * math.log10(255**2 / max(float(np.square(error).mean()), 1e-12))


@pytest.mark.parametrize("variant", ["t2v", "i2v", "i2v-2.2"])
def test_the_three_variants_of_one_video(job: MakeJob, one_prompt: Path, variant: Variant) -> None:
    work = job(variant)
    work.asked, work.prompts = ALL, one_prompt
    made = work.run()
    assert made.folders == {name: work.output / name for name in ALL}
    assert (made.prompts, made.resumed_videos) == (1, 0)
    files = {work.output / name / f"000.{suffix}" for name in ALL for suffix in ("mp4", "mkv", "json")}
    assert {path for path in work.output.rglob("*") if path.is_file()} == files | {work.output / "manifest.json"}
    full, smoothed, simulated = (work.output / name / "000.mkv" for name in ALL)
    assert read_video(full).shape == (5, 64, 64, 3)
    assert read_video(full.with_suffix(".mp4")).shape == (5, 64, 64, 3)
    assert read_video(full).std() > 10
    assert psnr_db(full, smoothed) > 60
    assert 10 < psnr_db(full, simulated) < 50


def test_bf16_folded_weights_cost_little(
    job: MakeJob,
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


def test_the_same_seed_gives_the_same_bits(job: MakeJob, whole: Path) -> None:
    work = job("t2v")
    work.asked = ["full"]
    work.run()
    for name in ("000.mkv", "001.mkv", "000.mp4"):
        assert (work.output / "full" / name).read_bytes() == (whole / "full" / name).read_bytes()


def test_prompt_i_has_seed_plus_i(job: MakeJob, whole: Path, tmp_path: Path) -> None:
    work = job("t2v")
    work.prompts, work.sampling = tmp_path / "second.json", replace(work.sampling, seed=work.sampling.seed + 1)
    work.prompts.write_text(json.dumps(json.loads((job("t2v").prompts / SAMPLES_FILE).read_text())[1:]))
    work.run()
    for name in ("full", "fake-quant"):
        second = (work.output / name / "000.mkv").read_bytes()
        assert second == (whole / name / "001.mkv").read_bytes()
        assert second != (whole / name / "000.mkv").read_bytes()


def test_both_experts_are_changed(job: MakeJob) -> None:
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


def test_the_manifest_says_what_the_videos_were_made_of(job: MakeJob) -> None:
    work = job("i2v")
    work.asked = ["full"]
    work.run()
    manifest = open_artifact(work.output, KIND, FORMAT).manifest
    settings = manifest.settings
    assert (settings["steps"], settings["seed"], settings["guidance_scale"]) == (2, 42, 5.0)
    assert (settings["variants"], settings["device"], settings["dtype"]) == (["full"], "cpu", "float32")
    first = settings["prompts"][0]  # type: ignore[index]
    image = hashlib.sha256((work.prompts / "image_0.png").read_bytes()).hexdigest()
    entry = json.loads((work.prompts / SAMPLES_FILE).read_text())[0]
    texts = {key: entry[key] for key in ("prompt", "negative_prompt")}
    assert first == texts | {"image": image}  # what the model does not read is not recorded
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
    step = Made(folders, 1, 0, {}).next_steps
    assert step == "vq-eval compare --reference v/full --candidate v/fake-quant -o report"
    assert Made({"full": Path("v/full")}, 1, 0, {}).next_steps == ""


def test_ignored_linears_change_the_video_and_are_in_the_manifest(job: MakeJob, whole: Path) -> None:
    work = job("t2v")
    work.asked, work.ignored = ["fake-quant"], (IgnoreRule(blocks=("0-1",)), IgnoreRule(linears=("ffn.net.2",)))
    work.run()
    settings = open_artifact(work.output, KIND, FORMAT).manifest.settings
    names = settings["ignored"]["transformer"]  # type: ignore[index, call-overload]
    assert len(names) == 2 * 10 + 1
    assert names[-1] == "blocks.2.ffn.net.2"
    ours, plain, full = work.output / "fake-quant", whole / "fake-quant", whole / "full"
    assert psnr_db(full / "000.mkv", ours / "000.mkv") > psnr_db(full / "000.mkv", plain / "000.mkv")


def test_ignoring_what_is_not_there_is_refused(job: MakeJob) -> None:
    work = job("t2v")
    work.ignored = (IgnoreRule(blocks=(3,)),)
    work.refused("Block 3 cannot stay in full precision, because the blocks are 0 to 2")


def test_a_merged_model_s_videos_take_merged_artifacts_and_no_others(job: MakeJob, tmp_path: Path) -> None:
    work = job("t2v")
    work.loras = (LoraRequest(write_lora(tmp_path / "lora.safetensors")),)
    work.refused("was made from another model .* with the same LoRAs merged")


def test_full_precision_videos_are_those_of_the_merged_model(
    job: MakeJob, whole: Path, tmp_path: Path, one_prompt: Path
) -> None:
    work = job("t2v")
    work.asked, work.loras = ["full"], (LoraRequest(write_lora(tmp_path / "lora.safetensors"), 0.5),)
    work.run()
    # The same model with its files rewritten.
    source = open_source(str(work.model), work.loras)
    folder = Path(shutil.copytree(work.model, tmp_path / "rewritten")) / "transformer"
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    checkpoint = source.components["transformer"]
    save_file(checkpoint.plain(checkpoint.topology.tensors), folder / "diffusion_pytorch_model.safetensors")
    rewritten = job("t2v")
    rewritten.model, rewritten.asked, rewritten.output = tmp_path / "rewritten", ["full"], tmp_path / "videos-rewritten"
    rewritten.run()
    ours, theirs = (it.output / "full" / "000.mkv" for it in (work, rewritten))
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.read_bytes() != (whole / "full" / "000.mkv").read_bytes()
    (entry,) = open_artifact(work.output, KIND, FORMAT).manifest.components["transformer"].lora
    assert (entry.file, entry.strength) == ("lora.safetensors", 0.5)


def write_lora(path: Path) -> Path:
    """A LoRA over one linear of the tiny model, strong enough to show."""
    generator = torch.Generator().manual_seed(3)
    stem = "diffusion_model.blocks.0.ffn.2"
    down, up = torch.randn(4, FFN_DIM, generator=generator), torch.randn(INNER_DIM, 4, generator=generator)
    save_file({f"{stem}.lora_A.weight": down * 0.1, f"{stem}.lora_B.weight": up}, path)
    return path


# --- refusals, see also test_model_run.py -----------------------------------------------------------


@pytest.mark.parametrize(
    ("variants", "weights", "sentence"),
    [
        (["full", "fake_quant"], True, "`fake_quant` is not a variant: choose from full, floor, smoothed, fake-quant."),
        (["smoothed"], False, "`--weights` is missing"),
        (["fake-quant"], False, "`--weights` is missing"),
        (["fake-quant"], True, "`--qparams` is missing"),
    ],
)
def test_unknown_variants_and_missing_artifacts_are_refused(
    artifacts: Artifacts, variants: list[str], weights: bool, sentence: str
) -> None:
    smoothed, qparams = artifacts("t2v")
    with pytest.raises(VqError, match=sentence):
        open_candidates(variants, *((smoothed, None) if weights else (None, qparams)))


def test_what_does_not_belong_together_is_refused(
    job: MakeJob, tiny_model: Callable[[Variant], Path], write_weights: Callable[..., Path], tmp_path: Path
) -> None:
    work = job("t2v")
    work.model = tiny_model("i2v")
    work.refused(f"{work.weights} was made from another model")
    work = job("t2v")
    work.output.mkdir()
    work.refused(f"{work.output} exists already")
    work.weights = write_weights(work.model, tmp_path / "other", torch.bfloat16)
    work.refused(f"{work.qparams} was not made from {work.weights}")
