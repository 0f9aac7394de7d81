"""VBench over a folder of videos, in an environment of its own, beside our metrics.

    uv run python tools/vbench/run.py videos/full videos/fake-quant -o vbench

VBench pins old versions of numpy and transformers, so it never shares an environment with this project: uv makes one,
by itself, in its cache. VBench downloads the weights of its judges on first use, into ~/.cache/vbench or where
VBENCH_CACHE_DIR points; fill that folder beforehand where there is no network. It wants a GPU. The dimensions are those
that it can judge on videos that are not from its own prompts (its mode `custom_input`).

Writes `DIR/FOLDER.json` for each folder, VBench's own results as they are.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

VERSION = "0.1.5"
PYTHON = "3.10"
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)


def command(videos: Path, results: Path, dimensions: tuple[str, ...]) -> list[str]:
    """VBench on the videos in a folder, by uv, in an environment of its own."""
    environment = ("--isolated", "--no-project", "--python", PYTHON, "--with", f"vbench=={VERSION}")
    vbench = ("vbench", "evaluate", "--videos_path", str(videos), "--output_path", str(results))
    return ["uv", "run", *environment, *vbench, "--mode", "custom_input", "--dimension", *dimensions]


def judge(videos: Path, output: Path, dimensions: tuple[str, ...]) -> Path:
    """Run VBench over the `.mp4` of a folder; the file with its results."""
    found = sorted(videos.glob("*.mp4"))
    if not found:
        sys.exit(f"{videos} holds no .mp4: give folders that vq-eval fake-quant has written.")
    with TemporaryDirectory() as folder:
        only, results = Path(folder) / "videos", Path(folder) / "results"
        only.mkdir()
        for video in found:  # VBench would take every file of the folder for a video
            shutil.copy(video, only / video.name)
        subprocess.run(command(only, results, dimensions), check=True)
        (written,) = results.glob("*_eval_results.json")
        figures = json.loads(written.read_text(encoding="utf-8"))
    path = output / f"{videos.parent.name}-{videos.name}.json"
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return path


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of videos, each a variant.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")],
    dimension: Annotated[list[str], typer.Option(help="What to judge; repeatable.")] = list(DIMENSIONS),  # noqa: B006
) -> None:
    """Judge folders of videos with VBench."""
    for folder in folders:
        print(f"Wrote {judge(folder, output, tuple(dimension))}")


if __name__ == "__main__":
    typer.run(main)
