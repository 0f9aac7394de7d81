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

app = new_app("Simulate quantization in the full pipeline, and compare videos.")

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

WeightsOfAll = Annotated[
    list[Location] | None,
    path_option("--weights", help="Smoothed weights that the candidates were made from; repeatable."),
]
NamedQParams = Annotated[
    list[str] | None,
    typer.Option(
        "--qparams",
        metavar="[NAME=]PATH|URI",
        help="A candidate: quant params from `vq-algos quantize`; repeatable.",
        show_default=False,
    ),
]
Floor = Annotated[
    bool, typer.Option("--floor/--no-floor", help="Measure full precision with another attention kernel, too.")
]
SensitivityOption = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        metavar="K|K,K,…",
        help="Sample again with the worst 1 to K in full precision, or those of a list.",
        show_default=False,
    ),
]
SensitivityUnit = Annotated[
    str, typer.Option("--sensitivity-of", metavar="linears|blocks", help="What --sensitivity leaves out.")
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


@app.command("trajectory")
def trajectory_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: WeightsOfAll = None,
    qparams: NamedQParams = None,
    prompts: Prompts = None,
    output: Output = None,
    floor: Floor = True,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure how the latents of candidates drift from full precision over the steps.

    Teacher-forced, every step starts from full precision's latent: what it adds is that step's own error. Free-running,
    the candidate samples alone: errors accumulate. One full-precision pass serves all candidates, and each finds
    its weights among those given. Writes `trajectory.json` and `trajectory.png` into a new folder.

    For example:

        vq-eval trajectory --model MODEL --weights smoothed --qparams qparams --prompts prompts -o drift

        vq-eval trajectory --weights plain --qparams rtn=q1 --weights smoothed --qparams int8=q2 --qparams fp8=q3
        --prompts prompts -o drift
    """
    from vq_core.embedded import model_or_default
    from vq_core.meter import Meter
    from vq_core.model_defaults import defaults_of
    from vq_core.recipe import loras_of, read_recipe
    from vq_core.sampling import SamplingOptions, resolve_sampling
    from vq_eval.candidates import artifacts_of, open_named
    from vq_eval.trajectories.measure import measure_trajectories
    from vq_eval.trajectories.table import print_trajectories, rows_of

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.eval.prompts, "--prompts")
    folder: Location = required(output, "--output")
    asked = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    measured = measure_trajectories(
        name,
        open_named(*artifacts_of(weights, qparams, said)),
        samples,
        resolve_sampling(asked, said.eval, defaults_of(name), seed=said.seed),
        folder,
        floor=floor,
        loras=loras_of(lora, said),
        device=device,
        resume=resume,
    )
    if not as_json:
        print_trajectories(measured)
    report(
        f"Drift from {name}",
        {"report": str(folder), **meter.usage().rows()},
        result={"candidates": rows_of(measured), "output": str(folder), "usage": vars(meter.usage())},
        as_json=as_json,
    )


@app.command("layers")
def layers_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: Weights = None,
    qparams: QParams = None,
    prompts: Prompts = None,
    output: Output = None,
    sensitivity: SensitivityOption = None,
    sensitivity_of: SensitivityUnit = "linears",
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure the output SNR of every linear and block in place, and name what costs most or is likely broken.

    The model and its quantized twin run side by side on real activations. A linear's own error is that on full
    precision's input; in place, it has what the places before it did, too. Writes `layers.json`, `layers.md` and a heat
    map into a new folder.

    For example:

        vq-eval layers --model MODEL --weights smoothed --qparams qparams --prompts prompts -o layers

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 1,2,4,8

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 5 --sensitivity-of blocks
    """
    from vq_core.embedded import model_or_default
    from vq_core.meter import Meter
    from vq_core.model_defaults import defaults_of
    from vq_core.recipe import loras_of, read_recipe
    from vq_core.sampling import SamplingOptions, resolve_sampling
    from vq_eval.candidates import NamedPath, open_named
    from vq_eval.layers.markdown import print_layers
    from vq_eval.layers.measure import measure_layers
    from vq_eval.layers.sensitivity import parse_request

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.eval.prompts, "--prompts")
    folder: Location = required(output, "--output")
    smoothed = required(weights or said.path_of("smoothed-weights"), "--weights")
    quantized = required(qparams or said.path_of("quant-params"), "--qparams")
    (candidate,) = open_named([smoothed], [NamedPath("candidate", quantized)])
    asked = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    measured = measure_layers(
        name,
        candidate,
        samples,
        resolve_sampling(asked, said.eval, defaults_of(name), seed=said.seed),
        folder,
        sensitivity=parse_request(sensitivity, sensitivity_of),
        loras=loras_of(lora, said),
        device=device,
        resume=resume,
    )
    if not as_json:
        print_layers(measured)
    report(
        f"Layers of {quantized}",
        {"report": str(folder), **meter.usage().rows()},
        result={**measured.without_cells(), "output": str(folder), "usage": vars(meter.usage())},
        as_json=as_json,
    )


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
