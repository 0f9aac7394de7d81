"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options
from vq_core.remote.location import Location, NamedPath
from vq_eval.cli.options import (
    CompareOptions,
    FakeQuantOptions,
    LayersOptions,
    ReportOptions,
    RunOptions,
    TrajectoryOptions,
)

if TYPE_CHECKING:
    from vq_core.recipes.recipe import Artifact, Recipe

app = new_app("Simulate quantization in the full pipeline, and compare videos.")


@dataclass(frozen=True)
class _Run:
    """What a command samples, from its options and its recipe: an option beats the recipe."""

    options: RunOptions
    recipe: "Recipe"
    model: str
    note: str
    prompts: Location
    output: Location

    def arguments(self, fps: int | None = None) -> dict[str, Any]:
        """The arguments that every function that samples a model takes."""
        from vq_core.cli.sampling import resolve_sampling
        from vq_core.recipes.recipe import loras_of
        from vq_core.sampling.model_defaults import defaults_of

        options, recipe = self.options, self.recipe
        sampling = resolve_sampling(options, recipe.eval, defaults_of(self.model), fps=fps, seed=recipe.seed)
        return {
            "model": self.model,
            "prompts": self.prompts,
            "sampling": sampling,
            "output": self.output,
            "loras": loras_of(options.lora, recipe),
            "device": options.device,
            "resume": options.resume,
        }


def _begin(options: RunOptions, given: Sequence[Location | None], artifact: "Artifact | None" = None) -> _Run:
    """Set up logging and read the recipe; without `--output`, the output is the recipe's path of `artifact`.

    `given` are the artifacts among the options, which say what the model is if nothing else does.

    Raises:
        VqError: neither the options nor the recipe name the prompts or the output; the recipe cannot be read; see
            `chosen_model`.
    """
    from vq_core.artifacts.model_choice import chosen_model
    from vq_core.recipes.recipe import read_recipe

    set_up_logging(options.verbose)
    recipe = read_recipe(options.recipe)
    model = chosen_model(options.model or recipe.model, given, [recipe.path_of("smoothed-weights")])
    return _Run(
        options,
        recipe,
        model.name,
        model.note,
        required(options.prompts or recipe.eval.prompts, "--prompts"),
        required(options.output or (recipe.path_of(artifact) if artifact else None), "--output"),
    )


@app.command("fake-quant")
@takes_options(FakeQuantOptions)
def fake_quant_command(options: FakeQuantOptions) -> None:
    """Make the same videos in full precision and with simulated quantization.

    Prompt i has seed + i in every variant.
    Each video is written as `.mp4`, to look at, and as lossless `.mkv`, to measure.

    The variant `floor` is full precision with another attention kernel: it differs from `full` by rounding alone.
    Videos of both are kept for the next candidate of the same model, see `--cache`.

    With torchrun, the processes share the prompts: `torchrun --nproc-per-node 8 -m vq_eval fake-quant …`

    For example:

        vq-eval fake-quant --model MODEL --weights smoothed --qparams qparams --prompts prompts -o videos
        vq-eval fake-quant --model MODEL --prompts builtin:evaluation -o reference --variants full,floor
        vq-eval fake-quant --recipe recipe.yaml -o mixed --ignore 0,38-39 --ignore ffn.net.2
        vq-eval fake-quant --recipe recipe.yaml --steps 20
    """
    from vq_core.recipes.recipe import ignored_of, resolve
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_eval.videos.fake_quant import make_videos, open_candidates
    from vq_eval.videos.reference_cache import open_cache

    meter = Meter()
    asked = _begin(options, [options.weights, options.qparams], "videos")
    recipe = asked.recipe
    candidates = open_candidates(
        options.variants.split(",") if options.variants else recipe.eval.variants,
        options.weights or recipe.path_of("smoothed-weights"),
        options.qparams or recipe.path_of("quant-params"),
        ignored_of(options.ignore, recipe),
    )
    made = make_videos(
        **asked.arguments(fps=resolve(options.fps, recipe.eval.fps, None)),
        candidates=candidates,
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
        note=asked.note,
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


@app.command("trajectory")
@takes_options(TrajectoryOptions)
def trajectory_command(options: TrajectoryOptions) -> None:
    """Measure how the latents of candidates drift from full precision over the steps.

    Teacher-forced, every step starts from full precision's latent, and the error is that step's own. Free-running,
    the candidate samples alone, and errors accumulate. One full-precision pass serves all candidates, and each finds
    its weights among those given. Writes `trajectory.json` and `trajectory.png` into a new folder.

    For example:

        vq-eval trajectory --model MODEL --weights smoothed --qparams qparams --prompts prompts -o drift

        vq-eval trajectory --weights plain --qparams rtn=q1 --weights smoothed --qparams int8=q2 --qparams fp8=q3
        --prompts prompts -o drift
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.trajectories.measure import measure_trajectories
    from vq_eval.trajectories.table import print_trajectories, rows_of
    from vq_eval.videos.candidates import artifacts_of, open_named

    meter = Meter()
    asked = _begin(options, options.weights or ())
    candidates = open_named(*artifacts_of(options.weights, options.qparams, asked.recipe))
    measured = measure_trajectories(**asked.arguments(), candidates=candidates, floor=options.floor)
    if not options.as_json:
        print_trajectories(measured)
    report(
        f"Drift from {asked.model}",
        {"report": str(asked.output), **meter.usage().rows()},
        result={"candidates": rows_of(measured), "output": str(asked.output), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )


@app.command("layers")
@takes_options(LayersOptions)
def layers_command(options: LayersOptions) -> None:
    """Measure the output SNR of every linear and block, and name what costs most or is probably broken.

    The model and its quantized twin run side by side on real activations. A linear's own error is its error on full
    precision's input; its error in place includes what the places before it add. Writes `layers.json`, `layers.md`
    and a heat map into a new folder.

    For example:

        vq-eval layers --model MODEL --weights smoothed --qparams qparams --prompts prompts -o layers

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 1,2,4,8

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 5 --sensitivity-of blocks
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.layers.markdown import print_layers
    from vq_eval.layers.measure import measure_layers
    from vq_eval.layers.sensitivity import parse_request
    from vq_eval.videos.candidates import open_named

    meter = Meter()
    asked = _begin(options, [options.weights, options.qparams])
    smoothed = required(options.weights or asked.recipe.path_of("smoothed-weights"), "--weights")
    quantized = required(options.qparams or asked.recipe.path_of("quant-params"), "--qparams")
    (candidate,) = open_named([smoothed], [NamedPath("candidate", quantized)])
    sensitivity = parse_request(options.sensitivity, options.sensitivity_of)
    measured = measure_layers(**asked.arguments(), candidate=candidate, sensitivity=sensitivity)
    if not options.as_json:
        print_layers(measured)
    report(
        f"Layers of {quantized}",
        {"report": str(asked.output), **meter.usage().rows()},
        result={**measured.without_cells(), "output": str(asked.output), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )


@app.command("report")
@takes_options(ReportOptions)
def report_command(options: ReportOptions) -> None:
    """Write one folder that shows everything: the verdict, the videos side by side, plots, tables, and provenance.

    Open its `index.html`. It needs no network, and the folder can be sent as it is.
    The videos must still be where `compare` found them.

    For example:

        vq-eval report --comparison comparison -o report
        vq-eval report --comparison comparison --trajectory drift --layers layers-int8 --layers layers-fp8 -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_eval.report.build import make_report

    set_up_logging(options.verbose)
    meter = Meter()
    made = make_report(
        required(options.comparison, "--comparison"),
        required(options.output, "--output"),
        trajectory=options.trajectory,
        layers=options.layers or (),
        artifacts=options.artifacts or (),
        lossless_frames=options.lossless_frames,
    )
    report("Report", made.rows() | meter.usage().rows(), result=made.to_json(), as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
