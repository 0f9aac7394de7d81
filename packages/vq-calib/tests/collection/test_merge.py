import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_calib.collection.collect import collect
from vq_calib.collection.merge import merge
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_calib.planning.settings import settings_of
from vq_core.artifacts.stats import open_stats
from vq_core.errors import VqError
from vq_core.store.manifest import FILE_NAME, Manifest
from vq_core.store.resumable_folder import partial_folder
from vq_core.store.writer import ArtifactWriter
from vq_core.testing.tiny_models import Variant, write_samples

Contents = Callable[[Path], dict[str, bytes]]
PROMPTS = 5


@pytest.fixture(scope="module")
def request_(make_request: Callable[..., CollectRequest], tmp_path_factory: pytest.TempPathFactory) -> CollectRequest:
    """Five prompts, the last one held out, and a step for each of two experts; fewer tokens than strata could hold."""
    prompts = write_samples(tmp_path_factory.mktemp("five"), PROMPTS, with_images=True)
    return replace(make_request("i2v-2.2", tokens=90, steps=2), prompts=prompts)


@pytest.fixture(scope="module")
def whole(request_: CollectRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The statistics of all prompts in one run."""
    path = tmp_path_factory.mktemp("whole") / "stats"
    collect(request_, path)
    return path


@pytest.fixture(scope="module")
def parts(request_: CollectRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in three parts."""
    folder = tmp_path_factory.mktemp("parts")
    for number in (1, 2, 3):
        collect(replace(request_, part=RunPart(number, 3)), folder / str(number))
    return [folder / str(number) for number in (1, 2, 3)]


def test_all_parts_give_the_bytes_of_the_whole_in_any_order(
    whole: Path, parts: list[Path], contents: Contents, tmp_path: Path
) -> None:
    expected = contents(whole)
    assert len(expected) == 2 * 4 + 1
    for number, order in enumerate(itertools.permutations(parts)):
        merge(order, tmp_path / str(number))
        assert contents(tmp_path / str(number)) == expected


def test_merging_some_and_then_the_rest_gives_the_whole(
    whole: Path, parts: list[Path], contents: Contents, tmp_path: Path
) -> None:
    merge([parts[2], parts[0]], tmp_path / "some")
    some = settings_of(open_stats(tmp_path / "some"))
    assert some.parts == ["1/3", "3/3"]
    assert [prompt.index for prompt in some.prompts] == [0, 2, 3]
    assert some.total_prompts == PROMPTS
    merge([parts[1], tmp_path / "some"], tmp_path / "all")
    assert contents(tmp_path / "all") == contents(whole)


def test_parts_without_tokens_merge_too(request_: CollectRequest, contents: Contents, tmp_path: Path) -> None:
    request = replace(request_, tokens=0)
    collect(request, tmp_path / "whole")
    for number in (1, 2):
        collect(replace(request, part=RunPart(number, 2)), tmp_path / str(number))
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def test_a_killed_merge_is_resumed_to_the_same_bytes(
    whole: Path, parts: list[Path], contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = ArtifactWriter.write_tensors, []

    def write_three(self: ArtifactWriter, file: str, tensors: Any) -> None:
        if len(written) == 3:
            raise Killed
        written.append(file)
        write(self, file, tensors)

    with monkeypatch.context() as patched:
        patched.setattr(ArtifactWriter, "write_tensors", write_three)
        with pytest.raises(Killed):
            merge(parts, tmp_path / "stats")
    inodes = {file: (partial_folder(tmp_path / "stats") / file).stat().st_ino for file in written}
    with pytest.raises(VqError, match="--resume"):
        merge(parts, tmp_path / "stats")
    merge(parts, tmp_path / "stats", resume=True)
    assert contents(tmp_path / "stats") == contents(whole)
    assert {file: (tmp_path / "stats" / file).stat().st_ino for file in written} == inodes


def test_what_does_not_belong_together_and_an_output_that_exists_are_refused(
    request_: CollectRequest, parts: list[Path], whole: Path, tiny_model: Callable[[Variant], Path], tmp_path: Path
) -> None:
    collect(replace(request_, model=str(tiny_model("t2v")), part=RunPart(2, 3)), tmp_path / "other")
    for inputs, output, message in (
        ([parts[0], parts[0]], tmp_path / "stats", r"both hold prompt \d: merge each part once"),
        ([whole, parts[1]], tmp_path / "stats", r"both hold prompt \d: merge each part once"),
        ([parts[0], tmp_path / "other"], tmp_path / "stats", "other was made from another model"),
        (parts[1:], parts[0], "exists already"),
    ):
        with pytest.raises(VqError, match=message):
            merge(inputs, output)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def _with_settings(part: Path, folder: Path, **settings: Any) -> Path:
    """A copy of `part` that says it was collected with other settings."""
    copy = shutil.copytree(part, folder / "edited")
    content = json.loads((copy / FILE_NAME).read_text())
    content.pop("digest")
    content["tool"] = settings.pop("tool", content["tool"])
    content["settings"] |= settings
    (copy / FILE_NAME).write_text(Manifest.model_validate(content).to_json())
    return copy


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 5}, {"height": 32}, {"width": 32}, {"num_frames": 9}, {"guidance_scale": 2.0}, {"seed": 1},
        {"guidance_scale_2": 3.0}, {"tokens": 0}, {"tokens": 91}, {"dtype": "bfloat16"}, {"device": "cuda"},
        {"reduction": "compiled"}, {"torch": "1.0"}, {"diffusers": "1.0"}, {"prompts_sha256": "00"},
        {"total_prompts": 6}, {"tool": "vq-calib 9.9"},
    ],
    ids=str,
)  # fmt: skip
def test_parts_of_other_runs_are_refused_with_the_difference(
    changed: dict[str, Any], parts: list[Path], tmp_path: Path
) -> None:
    ((name, value),) = changed.items()
    other = _with_settings(parts[1], tmp_path, **changed)
    with pytest.raises(
        VqError, match=rf"edited was collected with {name} {value} and .* with .*: merge parts of one run"
    ):
        merge([parts[0], other], tmp_path / "stats")
