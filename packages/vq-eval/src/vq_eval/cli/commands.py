"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options
from vq_core.remote.location import Location
from vq_eval.cli.diagnose import layers_command, trajectory_command
from vq_eval.cli.options import CompareOptions, FakeQuantOptions
from vq_eval.cli.report import report_command

app = new_app("Simulate quantization in the full pipeline, and compare videos.")
app.command("trajectory")(trajectory_command)
app.command("layers")(layers_command)
app.command("report")(report_command)


@app.command("fake-quant")
@takes_options(FakeQuantOptions)
def fake_quant_command(options: FakeQuantOptions) -> None:
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
    from vq_core.cli.sampling import resolve_sampling
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import ignored_of, loras_of, read_recipe, resolve
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_core.sampling.model_defaults import defaults_of
    from vq_eval.videos.fake_quant import make_videos, open_candidates
    from vq_eval.videos.reference_cache import open_cache

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    name = model_or_default(options.model or said.model)
    samples = required(options.prompts or said.eval.prompts, "--prompts")
    videos = required(options.output or said.path_of("videos"), "--output")
    candidates = open_candidates(
        options.variants.split(",") if options.variants else said.eval.variants,
        options.weights or said.path_of("smoothed-weights"),
        options.qparams or said.path_of("quant-params"),
        ignored_of(options.ignore, said),
    )
    fps = resolve(options.fps, said.eval.fps, None)
    sampling = resolve_sampling(options, said.eval, defaults_of(name), fps=fps, seed=said.seed)
    made = make_videos(
        name,
        candidates,
        samples,
        sampling,
        videos,
        loras=loras_of(options.lora, said),
        device=options.device,
        resume=options.resume,
        cache=open_cache(options.cache, no_cache=options.no_cache),
        process=this_process(),
    )
    if made is None:  # another process reports
        return
    report(
        "Videos of each variant",
        {**made.rows(), **meter.usage().rows()},
        result={**made.to_json(), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=made.next_steps,
    )


@app.command("compare")
@takes_options(CompareOptions)
def compare_command(options: CompareOptions) -> None:
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

    set_up_logging(options.verbose)
    meter = Meter()
    folder: Location = required(options.output, "--output")
    entries = entries_of(required(options.reference, "--reference"), options.candidates or (), options.floor)
    limits = option_limits({"psnr": options.min_psnr, "ssim": options.min_ssim})
    if options.gate:
        limits += read_gate(options.gate)
    result = compare(entries, folder, limits, metrics=options.metrics, prompts=options.prompts, device=options.device)
    report(
        "Comparison",
        summary_rows(result) | {"report": str(folder / MARKDOWN_NAME)} | meter.usage().rows(),
        result={**result.without_frames(), "output": str(folder), "usage": vars(meter.usage())},
        as_json=options.as_json,
        table=console_table(result),
    )
    enforce(result)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
