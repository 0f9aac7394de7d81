"""Does the working tree make the same artifacts as a commit? Exits with 1 where one differs that was not expected to.

Run by `make same COMMIT=…`. Both make everything that `road.py` lists, on the CPU, each in an environment of its own.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from same_artifacts.compare import differences
from same_artifacts.road import commands

MODELS = ("wan-tiny", "wan-tiny-hard")
TRAVEL = Path(__file__).with_name("travel.py")
BUILT_IN = Path("packages/vq-wan-tiny/src/vq_wan_tiny/wan_tiny")


def main(
    commit: Annotated[str, typer.Argument(help="The commit to compare the working tree with.")],
    expect: Annotated[
        list[str] | None, typer.Option(help="Differences that are meant: FILE:NAME, with wildcards; repeatable.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Take what the commit made in an earlier run.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the artifacts lie, in `before` and `after`.")] = Path(
        "build/same"
    ),
) -> None:
    """Make all artifacts with both, and list the differences."""
    folder = folder.resolve()
    before, after, made_by = folder / "before", folder / "after", folder / "before.txt"
    revision = _git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
    made = "\n".join([revision, *(line for model in MODELS for line in commands(model))])
    if not (keep and made_by.is_file() and made_by.read_text(encoding="utf-8") == made):
        made_by.unlink(missing_ok=True)
        with TemporaryDirectory() as checkout:
            _make_all(before, Path(checkout), _install(revision, Path(checkout)))
        made_by.write_text(made, encoding="utf-8")
    _make_all(after, Path.cwd(), sys.executable)

    found = differences(before, after)
    unexpected = [it for it in found if not any(fnmatchcase(it.where, pattern) for pattern in expect or ())]
    for it in unexpected:
        print(f"{it.where} {it.what}")
    files = sum(path.is_file() for path in after.rglob("*"))
    print(f"{files} files; {len(found)} differences from {revision[:7]}, {len(unexpected)} of them not expected.")
    sys.exit(1 if unexpected else 0)


def _install(revision: str, checkout: Path) -> str:
    """Check `revision` out into `checkout` and install it with its own pins; the path of its Python."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", revision))) as archive:
        archive.extractall(checkout, filter="data")
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    sync = [os.environ.get("UV", "uv"), "sync", "--quiet", "--no-dev", "--python", sys.executable]
    subprocess.run(sync, cwd=checkout, env=environment, check=True)
    return str(checkout / ".venv" / "bin" / "python")


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE).stdout


def _make_all(folder: Path, checkout: Path, python: str) -> None:
    """Make `folder` anew, with a folder for each model, both at a time."""
    shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory() as cache, ThreadPoolExecutor(len(MODELS)) as models:
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache}
        travels = [models.submit(_make, model, folder / model, checkout, python, environment) for model in MODELS]
        for travel in travels:
            travel.result()


def _make(model: str, folder: Path, checkout: Path, python: str, environment: dict[str, str]) -> None:
    """Run every command for `model` in `folder`."""
    _copy_encoders(checkout / BUILT_IN, folder / "encoders")
    lines = "".join(f"{command}\n" for command in commands(model))
    travel = [python, str(TRAVEL)]
    done = subprocess.run(
        travel, input=lines, cwd=folder, env=environment, stdout=subprocess.DEVNULL, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{folder} is unfinished: one of its commands failed.")


def _copy_encoders(model: Path, copy: Path) -> None:
    """The encoders of `model`, but with the activation that LightX2V's image encoder has, or export refuses them."""
    for name in ("text_encoder", "image_encoder"):
        shutil.copytree(model / name, copy / name)
    shutil.copy(model / "model_index.json", copy)
    config = copy / "image_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"hidden_act": "gelu"}))


if __name__ == "__main__":
    typer.run(main)
