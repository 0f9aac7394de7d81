"""The loss curves of one or more training runs as a picture, from their logs.

From the root:

    PYTHONPATH=tools uv run python -m wan_tiny.training.curve FOLDER … -o curve.png
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from wan_tiny.training.train import LOG_FILE

Curves = dict[str, list[tuple[int, float]]]
"""(step, value) in the order of the log, by name."""


def read_curves(folder: Path) -> Curves:
    """The curves in the log of the run in `folder`; figures that were logged once are none."""
    curves: Curves = defaultdict(list)
    for line in (folder / LOG_FILE).read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        curves[entry["name"]].append((entry["step"], entry["value"]))
    return {name: points for name, points in curves.items() if len(points) > 1}


def draw_curves(runs: dict[str, Curves], picture: Path) -> None:
    """One panel per curve, one line per run."""
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    figure = Figure(figsize=(4.5 * len(names), 3.2), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for run, curves in runs.items():
            if points := curves.get(name):
                axes.plot(*zip(*points, strict=True), label=run, linewidth=1)
        axes.set_title(name)
        axes.set_xlabel("step")
        if name.endswith("loss"):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
) -> None:
    """Draw the curves of `folders` into `output`."""
    draw_curves({folder.name: read_curves(folder) for folder in folders}, output)


if __name__ == "__main__":
    typer.run(main)
