"""The whole road through a bucket: every stage on a machine of its own, and nothing between them but URIs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from s3fs import S3FileSystem

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.stats import open_stats
from vq_core.files.tensor_file import bytes_of
from vq_core.remote.location import parse_location

Machine = Callable[[str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("a")` goes on at another machine: the cache is that one's, and so is the working directory."""

    def go_to(name: str) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("VQ_CACHE", str(tmp_path / name / "cache"))

    return go_to


def local_files(folder: Path) -> list[Path]:
    """Files of the working directory outside the cache."""
    return [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts]


def test_every_stage_on_a_machine_of_its_own(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], bucket: str, machine: Machine, tmp_path: Path
) -> None:
    s3 = S3FileSystem()
    s3.put(f"{tiny_model('i2v')}/", f"{bucket}/model/", recursive=True)
    s3.put(f"{prompts}/", f"{bucket}/prompts/", recursive=True)
    model = ["--model", f"{bucket}/model"]
    image = json.loads((prompts / "samples.json").read_text())[0]["image"]

    machine("calibrates")
    collected = run(
        "vq-calib collect", *model, "--prompts", f"{bucket}/prompts", "-o", f"{bucket}/stats", *sampling, "--tokens", 16
    )
    assert collected["output"] == f"{bucket}/stats"
    machine("smooths")
    run("vq-algos smooth", *model, "--stats", f"{bucket}/stats", "-o", f"{bucket}/smoothed")
    machine("quantizes")
    run("vq-algos quantize", "--weights", f"{bucket}/smoothed", "--scheme", "int8", "-o", f"{bucket}/qparams")
    machine("exports")
    written = run(
        "vq-export lightx2v",
        "--weights",
        f"{bucket}/smoothed",
        "--qparams",
        f"{bucket}/qparams",
        "-o",
        f"{bucket}/ckpt",
    )
    assert written["size"] == s3.du(f"{bucket}/ckpt")
    machine("verifies")
    assert run("vq-export verify", f"{bucket}/ckpt", *model)["problems"] == []
    machine("samples")
    run(
        "vq-infer i2v", *model, "--checkpoint", f"{bucket}/ckpt", "--image", f"{bucket}/prompts/{image}",
        "--prompt", "a boat", "-o", f"{bucket}/boat.mkv", *sampling,
    )  # fmt: skip
    machine("simulates")
    run(
        "vq-eval fake-quant", *model, "--weights", f"{bucket}/smoothed", "--qparams", f"{bucket}/qparams",
        "--prompts", f"{bucket}/prompts/samples.json", "-o", f"{bucket}/videos", *sampling,
    )  # fmt: skip
    machine("compares")
    compared = run(
        "vq-eval compare", "--reference", f"{bucket}/videos/full", "--candidate", f"{bucket}/videos/fake-quant",
        "-o", f"{bucket}/report",
    )  # fmt: skip
    assert compared["reference"]["folder"] == f"{bucket}/videos/full"
    assert compared["reference"]["provenance"]["path"] == f"{bucket}/videos"
    assert s3.size(f"{bucket}/boat.mkv") > 0
    assert sorted(Path(path).name for path in s3.ls(f"{bucket}/report")) == ["compare.json", "compare.md"]
    assert [path for path in tmp_path.iterdir() if local_files(path)] == []

    # The road on disk gives the same bytes, but for the name of the model in the headers of the files.
    machine("has a disk")
    run("vq-algos smooth", "--model", tiny_model("i2v"), "--stats", f"{bucket}/stats", "-o", "smoothed")
    run("vq-algos quantize", "--weights", "smoothed", "--scheme", "int8", "-o", "qparams")
    run("vq-export lightx2v", "--weights", "smoothed", "--qparams", "qparams", "-o", "ckpt")
    there, here = (open_checkpoint(parse_location(at)).artifact for at in (f"{bucket}/ckpt", "ckpt"))
    names = here.manifest.components["transformer"].tensors
    assert there.manifest.components["transformer"].tensors == names
    tensors = zip(*(artifact.tensors("transformer", names).values() for artifact in (there, here)), strict=True)
    assert all(bytes_of(one) == bytes_of(other) for one, other in tensors)


def test_a_recipe_in_the_bucket_names_what_lies_beside_it(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], bucket: str, machine: Machine
) -> None:
    s3 = S3FileSystem()
    s3.put(f"{tiny_model('t2v')}/", f"{bucket}/runs/model/", recursive=True)
    s3.put(f"{prompts}/", f"{bucket}/prompts/", recursive=True)
    recipe = {"model": "./model", "scheme": "int8", "output": "out", "calib": {"prompts": "../prompts"}}
    s3.pipe(f"{bucket}/runs/recipe.yaml", yaml.safe_dump(recipe).encode())
    said = ["--recipe", f"{bucket}/runs/recipe.yaml"]
    machine("one")
    run("vq-calib collect", *said, *sampling, "--tokens", 0)
    run("vq-algos smooth", *said)
    machine("two")
    run("vq-algos quantize", *said)
    run("vq-export lightx2v", *said)
    assert s3.exists(f"{bucket}/runs/out/lightx2v/manifest.json")


def test_parts_of_a_run_meet_in_the_bucket(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], bucket: str, machine: Machine
) -> None:
    asked = ["--model", tiny_model("t2v"), "--prompts", prompts, *sampling, "--tokens", 0]
    for number in (1, 2):
        machine(f"part {number}")
        run("vq-calib collect", *asked, "-o", f"{bucket}/part-{number}", "--part", f"{number}/2")
    machine("merges")
    merged = run("vq-calib merge", f"{bucket}/part-1", f"{bucket}/part-2", "-o", f"{bucket}/stats")
    assert merged["prompts"] == 2


def test_processes_that_run_together_need_no_shared_disk(
    tiny_model: Any, prompts: Path, sampling: list[str], bucket: str, start_ranks: Any
) -> None:
    asked = ["--model", tiny_model("t2v"), "--prompts", prompts, *sampling, "--tokens", 0, "-o", f"{bucket}/stats"]
    code = f"import sys\nfrom vq_calib.cli import main\nsys.argv = {['vq-calib', 'collect', *map(str, asked)]}\nmain()"
    for rank in start_ranks(code, code):
        assert rank.ended(240) == 0, rank.stderr
    assert S3FileSystem().ls(bucket) == [f"{bucket}/stats".removeprefix("s3://")]
    prompts_seen = open_stats(parse_location(f"{bucket}/stats")).artifact.manifest.settings["prompts"]
    assert isinstance(prompts_seen, list)
    assert len(prompts_seen) == 2
