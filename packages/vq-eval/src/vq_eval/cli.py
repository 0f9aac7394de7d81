"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

from typing import Annotated

import typer

from vq_core.cli import new_app, report, required, run, set_up_logging
from vq_core.location import Location
from vq_core.options import (
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
from vq_eval.where_cli import add_commands

app = new_app("Simulate quantization in the full pipeline, and compare videos.")
add_commands(app)

Reference = Annotated[Location | None, path_option("--reference", help="Folder of videos to compare against.")]
Candidate = Annotated[Location | None, path_option("--candidate", help="Folder of videos with the same names.")]
MinPsnr = Annotated[
    float | None,
    typer.Option("--min-psnr", help="Fail where a video's PSNR is lower, in dB.", show_default=False),
]
MinSsim = Annotated[
    float | None,
    typer.Option("--min-ssim", help="Fail where a video's SSIM is lower, 1 at best.", show_default=False),
]
Variants = Annotated[
    str | None,
    typer.Option(
        "--variants",
        help="Of full,smoothed,fake-quant.  [default: full, and the last that --weights and --qparams allow]",
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
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make the same videos in full precision and with simulated quantization.

    Prompt i has seed + i in every variant.
    Each video is written as `.mp4`, to look at, and as lossless `.mkv`, to measure.

    For example:

        vq-eval fake-quant --model MODEL --weights smoothed --qparams qparams --prompts prompts -o videos
        vq-eval fake-quant --model MODEL --prompts prompts -o reference
        vq-eval fake-quant --recipe recipe.yaml -o mixed --ignore 0,38-39 --ignore ffn.net.2
        vq-eval fake-quant --recipe recipe.yaml --steps 20
    """
    from vq_core.embedded import model_or_default
    from vq_core.meter import Meter
    from vq_core.model_defaults import defaults_of
    from vq_core.recipe import ignored_of, loras_of, read_recipe
    from vq_core.sampling import SamplingOptions, resolve_sampling
    from vq_eval.fake_quant import make_videos, open_candidates

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
    made = make_videos(name, candidates, samples, sampling, videos, loras=loras, device=device, resume=resume)
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
    candidate: Candidate = None,
    output: Output = None,
    min_psnr: MinPsnr = None,
    min_ssim: MinSsim = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure PSNR and SSIM of two folders of videos with the same names.

    Videos are `.mp4` or `.mkv`; where a name has both, the lossless `.mkv` is compared.
    Writes `compare.json` (per frame, per video, overall) and `compare.md` into a new folder.
    Exits with 1 where a video is below `--min-psnr` or `--min-ssim`.

    For example:

        vq-eval compare --reference bf16 --candidate int8 -o report
        vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30
    """
    from vq_core.meter import Meter
    from vq_eval.compare import compare
    from vq_eval.compare_report import MARKDOWN_NAME, summary_rows
    from vq_eval.gate import enforce

    set_up_logging(verbose)
    meter = Meter()
    folder: Location = required(output, "--output")
    minima = {"psnr": min_psnr, "ssim": min_ssim}
    result = compare(
        required(reference, "--reference"),
        required(candidate, "--candidate"),
        folder,
        {metric: minimum for metric, minimum in minima.items() if minimum is not None},
    )
    report(
        f"{candidate} against {reference}",
        summary_rows(result) | {"report": str(folder / MARKDOWN_NAME)} | meter.usage().rows(),
        result={**result.without_frames(), "output": str(folder)},
        as_json=as_json,
    )
    enforce(result)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
