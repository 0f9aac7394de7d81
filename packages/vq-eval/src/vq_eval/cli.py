"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

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
)
from vq_eval.options import (
    Artifacts,
    Cache,
    CandidateFolders,
    Comparison,
    FloorVideos,
    Gate,
    Ignore,
    LayersOfCandidates,
    LosslessFrames,
    MeasureFloor,
    Metrics,
    MinPsnr,
    MinSsim,
    NamedQParams,
    NoCache,
    PromptsOfVideos,
    Reference,
    SensitivityOption,
    SensitivityUnit,
    Trajectory,
    Variants,
    WeightsOfAll,
)

app = new_app("Simulate quantization in the full pipeline, and compare videos.")


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
    from vq_core.distributed import rank_of
    from vq_core.embedded import model_or_default
    from vq_core.meter import Meter
    from vq_core.model_defaults import defaults_of
    from vq_core.recipe import ignored_of, loras_of, read_recipe
    from vq_core.sampling import SamplingOptions, resolve_sampling
    from vq_eval.fake_quant import make_videos, open_candidates
    from vq_eval.reference_cache import open_cache

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
        rank=rank_of(),
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
    floor: FloorVideos = None,
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
    from vq_core.meter import Meter
    from vq_eval.compare import compare
    from vq_eval.compare_report import MARKDOWN_NAME
    from vq_eval.compare_table import console_table, summary_rows
    from vq_eval.gate import enforce
    from vq_eval.limits import option_limits, read_gate
    from vq_eval.rows import entries_of

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


@app.command("trajectory")
def trajectory_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: WeightsOfAll = None,
    qparams: NamedQParams = None,
    prompts: Prompts = None,
    output: Output = None,
    floor: MeasureFloor = True,
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
    from vq_eval.trajectory import measure_trajectories
    from vq_eval.trajectory_table import print_trajectories, rows_of

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
    from vq_eval.layers import measure_layers
    from vq_eval.layers_markdown import print_layers
    from vq_eval.sensitivity import parse_request

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


@app.command("report")
def report_command(
    comparison: Comparison = None,
    trajectory: Trajectory = None,
    layers: LayersOfCandidates = None,
    artifacts: Artifacts = None,
    output: Output = None,
    lossless_frames: LosslessFrames = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make one folder that shows everything: the verdict, the videos side by side, plots, tables, and provenance.

    Open its `index.html`; it needs no network, and the folder can be sent as it is.
    The videos must still be where `compare` found them.

    For example:

        vq-eval report --comparison comparison -o report
        vq-eval report --comparison comparison --trajectory drift --layers layers-int8 --layers layers-fp8 -o report
    """
    from vq_core.meter import Meter
    from vq_eval.report.build import make_report

    set_up_logging(verbose)
    meter = Meter()
    made = make_report(
        required(comparison, "--comparison"),
        required(output, "--output"),
        trajectory=trajectory,
        layers=layers or (),
        artifacts=artifacts or (),
        lossless_frames=lossless_frames,
    )
    report("Report", made.rows() | meter.usage().rows(), result=made.to_json(), as_json=as_json)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
