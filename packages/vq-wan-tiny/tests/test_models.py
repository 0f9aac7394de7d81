"""The built-in models by name, and the hard twin in the cache: made once, whole, and for its own source."""

import shutil
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import vq_wan_tiny
from vq_core.errors import VqError
from vq_core.model.source import resolve_model
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FIRST_FRAME, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import write_samples
from vq_wan_tiny import hard, models
from vq_wan_tiny.models import twin, wan_tiny, wan_tiny_hard, wan_tiny_harder


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != "locks"]


def hard_twin(model: Path, cache: Path) -> Path:
    """The hard twin, by whatever builds it now."""
    return twin(model, "hard", str(hard.VERSION), hard.build_hard, cache)


@pytest.fixture
def cache(tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty, with a random model in the place of the trained one."""
    monkeypatch.setattr(models, "user_cache_path", lambda name, appauthor: tmp_path / "cache" / name)
    monkeypatch.setattr(models, "wan_tiny", lambda: random_model)
    return tmp_path / "cache" / "vq"


def test_the_names_are_registered() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="vq_core.models")}
    ours = {"wan-tiny": wan_tiny, "wan-tiny-hard": wan_tiny_hard, "wan-tiny-harder": wan_tiny_harder}
    assert {name: found[name] for name in ours} == ours


def test_the_model_lies_in_the_package() -> None:
    assert wan_tiny() == Path(vq_wan_tiny.__path__[0]) / "wan_tiny"
    assert resolve_model("wan-tiny") == wan_tiny()


def test_the_twin_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = resolve_model("wan-tiny-hard")
    assert twin.parent == cache
    assert names(cache) == [twin.name]
    monkeypatch.setattr(hard, "build_hard", None)
    assert wan_tiny_hard() == twin


def test_each_twin_has_its_own_place(cache: Path, random_model: Path) -> None:
    built: list[tuple[Path, int]] = []

    def build(source: Path, output: Path, seed: int) -> None:
        built.append((source, seed))
        output.mkdir(exist_ok=True)

    folders = {twin(random_model, kind, version, build, cache) for kind in ("a", "b") for version in ("1", "2")}
    assert len(folders) == 4
    assert built == [(random_model, models.SEED)] * 4


def test_its_videos_are_those_of_the_model(cache: Path, random_model: Path, tmp_path: Path) -> None:
    sampling = Sampling(steps=2, height=64, width=64, num_frames=5)
    samples = read_samples(write_samples(tmp_path / "samples", 1, with_images=True), FIRST_FRAME)
    videos = []
    for model in (str(random_model), "wan-tiny-hard"):
        pipeline = VideoPipeline(model, "cpu")
        (conditions,) = pipeline.encode(samples, sampling)
        videos.append(pipeline.sample(conditions, sampling, seed=0).astype(int))
    assert np.abs(videos[0] - videos[1]).max() <= 1


@pytest.mark.parametrize("file", ["sampling.json", "vae/config.json"])
def test_another_source_has_another_twin(random_model: Path, tmp_path: Path, file: str) -> None:
    model = shutil.copytree(random_model, tmp_path / "random")
    first = hard_twin(model, tmp_path / "cache")
    (model / file).write_text(f"{(model / file).read_text() if (model / file).exists() else '{}'} ")
    second = hard_twin(model, tmp_path / "cache")
    assert first != second
    assert (second / file).read_bytes() == (model / file).read_bytes()


@pytest.mark.parametrize(("module", "constant"), [(models, "SEED"), (hard, "VERSION")])
def test_another_construction_has_another_twin(
    cache: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch, module: object, constant: str
) -> None:
    first = hard_twin(random_model, cache)
    monkeypatch.setattr(module, constant, 99)
    assert hard_twin(random_model, cache) != first


def test_two_that_make_it_at_once_both_have_it(
    cache: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, builds = hard.build_hard, []
    twins: list[Path] = []
    other = Thread(target=lambda: twins.append(hard_twin(random_model, cache)))

    def build_while_another_waits(source: Path, output: Path, seed: int) -> None:
        builds.append(output)
        other.start()
        other.join(0.2)
        build(source, output, seed)

    monkeypatch.setattr(hard, "build_hard", build_while_another_waits)
    twins.append(hard_twin(random_model, cache))
    other.join()
    assert len(builds) == 1
    assert twins[0] == twins[1]
    assert names(cache) == [twins[0].name]


def test_what_a_killed_process_has_left_is_removed(cache: Path, random_model: Path) -> None:
    twin = hard_twin(random_model, cache)
    twin.rename(twin.with_name(f".{twin.name}.draft"))
    assert hard_twin(random_model, cache) == twin
    assert names(cache) == [twin.name]


def test_a_failure_leaves_nothing(cache: Path, random_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(random_model, tmp_path / "random")
    next((model / "transformer").glob("*.safetensors")).unlink()
    with pytest.raises(VqError, match="is missing"):
        hard_twin(model, cache)
    assert names(cache) == []


def test_a_folder_that_cannot_be_renamed_is_an_error(
    cache: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(temporary: Path, path: Path) -> None:
        raise PermissionError(13, "denied", str(path))

    monkeypatch.setattr("vq_core.files.tensor_file.publish", refuse)
    with pytest.raises(PermissionError):
        hard_twin(random_model, cache)
    assert names(cache) == []
