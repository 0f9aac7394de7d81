"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

from pathlib import Path
from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.options import (
    PATH,
    AsJson,
    Device,
    Fps,
    GuidanceScale,
    GuidanceScale2,
    Height,
    Lora,
    ModelOrDefault,
    NumFrames,
    Output,
    Prompts,
    QParams,
    Recipe,
    Resume,
    Seed,
    Steps,
    Verbose,
    Weights,
    Width,
    path_option,
)
from vq_core.remote.location import Location
from vq_eval.cli.diagnose import add_commands
from vq_eval.cli.report import add_command

app = new_app("Simulate quantization in the full pipeline, and compare videos.")
add_commands(app)
add_command(app)

Reference = Annotated[Location | None, path_option("--reference", help="Folder of videos to compare against.")]
CandidateFolders = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate",
        metavar=f"[NAME=]{PATH}",
        help="Folder of videos with the same names, and its name in tables; repeatable.",
        show_default=False,
    ),
]
Floor = Annotated[
    Location | None,
    path_option("--floor", help="Full precision once more, by another kernel or attention, from the same seeds."),
]
Metrics = Annotated[
    str, typer.Option("--metrics", help="Names with commas between them, or all: those that can be measured here.")
]
Gate = Annotated[Location | None, path_option("--gate", help="YAML or JSON file of limits that have to be kept.")]
PromptsOfVideos = Annotated[
    Location | None,
    path_option("--prompts", help="What the videos were made from, for metrics that need first frames or captions."),
]
MinPsnr = Annotated[
    float | None,
    typer.Option("--min-psnr", help="Fail where a candidate's video has less PSNR, in dB.", show_default=False),
]
MinSsim = Annotated[
    float | None,
    typer.Option("--min-ssim", help="Fail where a candidate's video has less SSIM, 1 at best.", show_default=False),
]
Variants = Annotated[
    str | None,
    typer.Option(
        "--variants",
        help="Of full,floor,smoothed,fake-quant.  [default: full, and the last that --weights and --qparams allow]",
        show_default=False,
    ),
]

Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="BLOCKS:LINEARS",
        help="Leave linears in full precision: 0,38-39 or ffn.net.2 or 0,38-39:ffn.net.2; repeatable.",
        show_default=False,
    ),
]

Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that keeps videos of the model itself.  [default: in the user's cache]"),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Make videos of the model itself anew, and keep none.")]


@app.command("fake-quant")
def fake_quant_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: Weights = None,
    qparams: QParams = None,
    prompts: Prompts = None,
    output: Output = None,
    variants: Variants = None,
    ignore: Ignore = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    fps: Fps = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    cache: Cache = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make the same videos in full precision and with simulated quantization.

    Prompt i has seed + i in every variant.
    Each video is written as `.mp4`, to look at, and as lossless `.mkv`, to measure.

    The variant `floor` is full precision with another attention kernel: what differs between it and `full` is rounding
    alone. Videos of both are kept for the next candidate of the same model, see `--cache`.

    With torchrun, processes share the prompts out: `torchrun --nproc-per-node 8 -m vq_eval fake-quant …`

    For example:

        vq-eval fake-quant --model MODEL --weights smoothed --qparams qparams --prompts prompts -o videos
        vq-eval fake-quant --model MODEL --prompts builtin:evaluation -o reference --variants full,floor
        vq-eval fake-quant --recipe recipe.yaml -o mixed --ignore 0,38-39 --ignore ffn.net.2
        vq-eval fake-quant --recipe recipe.yaml --steps 20
    """
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import ignored_of, loras_of, read_recipe
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_core.sampling.model_defaults import defaults_of
    from vq_core.sampling.settings import SamplingOptions, resolve_sampling
    from vq_eval.videos.fake_quant import make_videos, open_candidates
    from vq_eval.videos.reference_cache import open_cache

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.eval.prompts, "--prompts")
    videos = required(output or said.path_of("videos"), "--output")
    candidates = open_candidates(
        variants.split(",") if variants else said.eval.variants,
        weights or said.path_of("smoothed-weights"),
        qparams or said.path_of("quant-params"),
        ignored_of(ignore, said),
    )
    asked = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, fps, seed)
    sampling = resolve_sampling(asked, said.eval, defaults_of(name), fps=said.eval.fps, seed=said.seed)
    loras = loras_of(lora, said)
    made = make_videos(
        name,
        candidates,
        samples,
        sampling,
        videos,
        loras=loras,
        device=device,
        resume=resume,
        cache=open_cache(cache, no_cache=no_cache),
        process=this_process(),
    )
    if made is None:  # another process reports
        return
    report(
        "Videos of each variant",
        {**made.rows(), **meter.usage().rows()},
        result={**made.to_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=made.next_steps,
    )


@app.command("compare")
def compare_command(
    reference: Reference = None,
    candidate: CandidateFolders = None,
    floor: Floor = None,
    output: Output = None,
    metrics: Metrics = "all",
    prompts: PromptsOfVideos = None,
    gate: Gate = None,
    min_psnr: MinPsnr = None,
    min_ssim: MinSsim = None,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Compare folders of videos with a reference, which holds videos of the same names.

    Videos are `.mp4` or `.mkv`; where a name has both, the lossless `.mkv` is compared.
    Writes `compare.json` (per frame, per video, overall with 95 % intervals) and `compare.md` into a new folder.
    Exits with 1 where a row breaks a limit of `--gate`, `--min-psnr` or `--min-ssim`.

    For example:

        vq-eval compare --reference bf16 --candidate int8 -o report
        vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30
        vq-eval compare --reference bf16 --floor sdpa --candidate RTN=rtn --candidate int8 --gate gate.yaml -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.compare.compare import compare
    from vq_eval.compare.compared_folders import entries_of
    from vq_eval.compare.gate import enforce
    from vq_eval.compare.limits import option_limits, read_gate
    from vq_eval.compare.schema import MARKDOWN_NAME
    from vq_eval.compare.table import console_table, summary_rows

    set_up_logging(verbose)
    meter = Meter()
    folder: Location = required(output, "--output")
    entries = entries_of(required(reference, "--reference"), candidate or (), floor)
    limits = option_limits({"psnr": min_psnr, "ssim": min_ssim}) + (read_gate(gate) if gate else ())
    result = compare(entries, folder, limits, metrics=metrics, prompts=prompts, device=device)
    report(
        "Comparison",
        summary_rows(result) | {"report": str(folder / MARKDOWN_NAME)} | meter.usage().rows(),
        result={**result.without_frames(), "output": str(folder), "usage": vars(meter.usage())},
        as_json=as_json,
        table=console_table(result),
    )
    enforce(result)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
