"""What each cache costs the built-in models and what it saves: docs/caching_cost.md, from vq-infer and vq-eval."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pages import today, typed, write_page
from road import Road

FIRST_BLOCK = ("first-block:0.05", "first-block:0.08", "first-block:0.15")
CACHES = ("none", *FIRST_BLOCK, "taylorseer:2", "taylorseer:3", "taylorseer:5")

PAGE = """# What caches cost and save

{date}, `{command}`: INT8 (rounded to nearest), {prompts} held-out prompts, {steps} steps with CFG. PSNR and SSIM
compare with the same checkpoint without a cache, as means over videos (`vq-eval compare`). The models are tiny and take
few steps; large models with 40 to 50 steps change less from step to step. So these figures rank the caches; they do not
predict the error on a large model. wan-tiny-hard rounded to nearest is a broken model, whose steps change too much to
skip any.

{tables}
"""


@dataclass(frozen=True)
class Line:
    """One cache on one model; PSNR is in dB."""

    model: str
    cache: str
    asked: int
    computed: int
    psnr: float | None
    ssim: float | None


def measure(road: Road, model: str, folder: Path, prompts: Path, steps: int) -> list[Line]:
    """Every cache on `model`."""
    checkpoint = folder / "checkpoint"
    road.run("vq-export lightx2v", "--model", model, "--scheme", "int8", "-o", checkpoint)
    samples = json.loads((prompts / "samples.json").read_text(encoding="utf-8"))
    lines = []
    for cache in CACHES:
        videos = folder / cache.replace(":", "-")
        asked = computed = 0
        for index, sample in enumerate(samples):
            made = road.run(
                "vq-infer i2v", "--model", model, "--checkpoint", checkpoint, "--image", prompts / sample["image"],
                "--prompt", sample["prompt"], "--steps", steps, "--seed", 42 + index, "--cache", cache,
                "-o", videos / f"{index:03d}.mkv",
            )  # fmt: skip
            if made["passes"]:
                asked, computed = asked + made["passes"][0], computed + made["passes"][1]
        if cache == "none":
            continue
        report = folder / f"report-{videos.name}"
        compared = ("--reference", folder / "none", "--candidate", videos, "--metrics", "psnr,ssim", "-o", report)
        (row,) = road.run("vq-eval compare", *compared)["rows"]
        psnr, ssim = (row["overall"][metric]["mean"] for metric in ("psnr", "ssim"))
        lines.append(Line(model, cache, asked, computed, psnr, ssim))
    return lines


def table(lines: list[Line]) -> str:
    """The table of one model."""
    rows = [f"### {lines[0].model}", "", "| cache | passes computed | PSNR | SSIM |", "|---|---|---|---|"]
    for line in lines:
        psnr = "identical" if line.psnr is None else f"{line.psnr:.2f} dB"
        ssim = "" if line.ssim is None else f"{line.ssim:.4f}"
        share = f"{line.computed} of {line.asked} ({line.computed / line.asked:.0%})"
        rows.append(f"| `{line.cache}` | {share} | {psnr} | {ssim} |")
    return "\n".join(rows)


def main(
    models: Annotated[str, typer.Option(help="Built-in models, separated by commas.")] = "wan-tiny,wan-tiny-hard",
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 8,
    steps: Annotated[int, typer.Option(min=4, help="Denoising steps.")] = 16,
    output: Annotated[Path, typer.Option(help="Folder of the page and its JSON.")] = Path("docs"),
    folder: Annotated[Path, typer.Option(help="Folder of intermediate files, made anew.")] = Path("build/caches"),
) -> None:
    """Measure every cache and write the page."""
    shutil.rmtree(folder, ignore_errors=True)
    road = Road(Console(soft_wrap=True))
    prompts = folder / "prompts"
    road.run("vq-wan-tiny prompts", "-o", prompts, "--count", count, "--held-out")
    lines = {model: measure(road, model, folder / model, prompts, steps) for model in models.split(",")}
    run = {
        "command": typed("tools/wan_tiny/caches.py", "caches"),
        "date": today(),
        "prompts": count,
        "steps": steps,
    }
    content = run | {"cpu_cores": os.cpu_count(), "lines": [asdict(line) for of in lines.values() for line in of]}
    page = PAGE.format(**run, tables="\n\n".join(table(of) for of in lines.values()))
    print(f"Wrote {write_page(output, 'caching_cost', page, content)}")


if __name__ == "__main__":
    typer.run(main)
