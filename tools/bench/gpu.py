"""Every way to run Wan2.1-14B on this machine's GPU, at 480p and 720p, and the page that shows it: docs/gpu_bench.md.

Each size is one run of `vq-infer bench`, in turns and under steady load; its folder keeps the figures. Where the GPU's
machine is another than the page's, run there with --no-page, bring the folders, and write the page with --from-runs.
From the root:

    PYTHONPATH=tools uv run python tools/bench/gpu.py
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vq_core.files.tensor_file import publish

SIZES = {"480p": (480, 832), "720p": (720, 1280)}
ROOT = Path(__file__).resolve().parents[2]
DOCS, IMAGES = ROOT / "docs", "images"
INTRODUCTION = """\
# Speed on a GPU

Written by `make bench-gpu` from runs of `vq-infer bench`; the figures are in [gpu_bench.json](gpu_bench.json). A step
is two passes through the whole transformer, with the prompt and without. The contenders of one table were measured in
one run, each in its own process, those that fit into memory together in turns. The floor of a kind of work is the time
of its operations at the measured rate of matrix products, or of reading and writing its bytes once at the measured rate
of copies, whichever is longer. A heading begins with the run's folder; if that ends in `flash4`, FlashAttention-4 was
installed.
"""


def run(folder: Path, size: str, arguments: list[str]) -> None:
    """One run of `vq-infer bench`, into the new folder `folder/size`."""
    height, width = SIZES[size]
    command = ["bench", "--height", str(height), "--width", str(width), "-o", str(folder / size), *arguments]
    program = "from vq_infer.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *command], check=True)


def write_page(runs: list[Path], docs: Path) -> None:
    """Put the runs' pages, charts and figures together in `docs`."""
    (docs / IMAGES).mkdir(parents=True, exist_ok=True)
    parts, figures = [INTRODUCTION], {}
    for folder in runs:
        picture = f"{IMAGES}/gpu_bench_{folder.name}.png"
        text = (folder / "bench.md").read_text(encoding="utf-8").replace("## ", f"## {folder.name}: ", 1)
        if (folder / "bench.png").exists():
            shutil.copyfile(folder / "bench.png", docs / picture)
            text = text.replace("(bench.png)", f"({picture})")
        parts.append(text)
        figures[folder.name] = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    for name, content in (("gpu_bench.json", json.dumps(figures, indent=1) + "\n"), ("gpu_bench.md", "\n".join(parts))):
        draft = docs / f".{name}.tmp"
        draft.write_text(content, encoding="utf-8")
        publish(draft, docs / name)


def main(
    arguments: Annotated[list[str] | None, typer.Argument(help="For every `vq-infer bench`, after --.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="480p, 720p; repeatable.  [default: both]")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep the runs here.")] = None,
    from_runs: Annotated[list[Path] | None, typer.Option(help="Measure nothing: folders of runs.")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write docs/gpu_bench.md.")] = True,
) -> None:
    """Measure, and write the page."""
    runs = from_runs or []
    with tempfile.TemporaryDirectory() as temporary:
        if not runs:
            for name in size or SIZES:
                run(folder or Path(temporary), name, arguments or [])
                runs.append((folder or Path(temporary)) / name)
        if page:
            write_page(runs, DOCS)


if __name__ == "__main__":
    typer.run(main)
