"""What is the model itself is made once for all candidates, and the floor with another kernel."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vq_core.artifacts.videos import FORMAT, KIND, VideoFiles
from vq_core.media.video import read_video
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.store.reader import open_artifact
from vq_core.testing.tiny_models import Variant
from vq_eval.videos.fake_quant import Candidates
from vq_eval.videos.reference_cache import LOSSLESS, ReferenceCache

MakeJob = Callable[[Variant], Any]


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".mkv", ".mp4"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture
def work(job: MakeJob, tmp_path: Path, one_prompt: Path) -> Any:
    work = job("t2v")
    work.prompts = one_prompt
    work.sampling = replace(work.sampling, steps=1)
    work.cache = ReferenceCache(tmp_path / "cache")
    return work


def test_a_second_candidate_takes_the_reference_of_the_first(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.asked = ("full", "floor", "fake-quant")
    first = work.run(tmp_path / "first")
    applied: list[str] = []
    apply = Candidates.apply

    def watched(self: Candidates, variant: Any, transformers: Any, device: str) -> None:
        applied.append(variant)
        apply(self, variant, transformers, device)

    monkeypatch.setattr(Candidates, "apply", watched)
    second = work.run(tmp_path / "second")
    assert applied == ["fake-quant"]
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert [first.summaries[name].cached for name in work.asked] == [0, 0, 0]
    assert [second.summaries[name].cached for name in work.asked] == [1, 1, 0]
    assert second.summaries["full"].seconds == first.summaries["full"].seconds  # when it was made


def test_with_the_reference_in_the_cache_nothing_is_loaded(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.asked = ("full",)
    work.run(tmp_path / "first")

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(VideoPipeline, "transformers", property(fail))
    monkeypatch.setattr(VideoPipeline, "encode", fail)
    work.run(tmp_path / "second")
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_a_damaged_reference_is_made_again_and_kept_again(work: Any, tmp_path: Path) -> None:
    work.asked = ("full",)
    work.run(tmp_path / "first")
    (path,) = work.cache.folder.rglob(LOSSLESS)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert work.run(tmp_path / "second").summaries["full"].cached == 0
    assert work.run(tmp_path / "third").summaries["full"].cached == 1
    assert digests(tmp_path / "first") == digests(tmp_path / "second") == digests(tmp_path / "third")


def test_a_reference_that_another_run_made_meanwhile_is_taken(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.asked = ("full",)
    work.run(tmp_path / "first")
    take, answers = ReferenceCache.take, iter([False, True])

    def too_early(self: ReferenceCache, identity: Any, files: VideoFiles) -> bool:
        return next(answers) and take(self, identity, files)

    monkeypatch.setattr(ReferenceCache, "take", too_early)
    assert work.run(tmp_path / "second").summaries["full"].cached == 1


def test_the_floor_ran_another_kernel_and_the_candidate_did_not(work: Any) -> None:
    work.asked, work.cache = ("full", "floor", "fake-quant"), None
    latents: dict[str, torch.Tensor] = {}
    run = VideoPipeline._run

    def watched(self: VideoPipeline, *arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patched:
            decode = type(self._vae).decode

            def note(vae: Any, latent: torch.Tensor, **options: Any) -> Any:
                latents[str(len(latents))] = latent.clone()
                return decode(vae, latent, **options)

            patched.setattr(type(self._vae), "decode", note)
            return run(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(VideoPipeline, "_run", watched)
        work.run()
    full, floor, quantized = latents.values()
    # It rounds otherwise, and that is all it does: quantization costs a thousand times as much.
    assert not torch.equal(full, floor)
    assert 0 < (floor - full).norm() < (quantized - full).norm() / 1000
    manifest = open_artifact(work.output, KIND, FORMAT).manifest
    assert manifest.settings["floor_attention"] == ["math"]
    assert manifest.measured["attention"] == {"full": ["flash"], "floor": ["math"], "fake-quant": ["flash"]}
    videos = [read_video(work.output / name / "000.mkv").astype(int) for name in work.asked]
    assert np.abs(videos[0] - videos[1]).max() <= 1
    assert np.abs(videos[0] - videos[2]).max() > 1


def test_without_floor_no_kernel_is_named(work: Any) -> None:
    work.asked, work.cache = ("full",), None
    work.run()
    assert open_artifact(work.output, KIND, FORMAT).manifest.settings["floor_attention"] == []
