"""`vq-wan-tiny`: prompts from the world of the built-in models, and grades of the videos made from them."""

from dataclasses import dataclass
from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options
from vq_core.cli.options import SAMPLING, AsJson, Output, Prompts, Verbose, path_argument
from vq_core.recipes.ranges import Count, Seed
from vq_core.remote.location import Location

app = new_app("Prompts for the built-in models, and grades: did each shape do what its caption says?")


@dataclass(frozen=True, kw_only=True)
class PromptsOptions:
    """Options of `vq-wan-tiny prompts`."""

    output: Output = None
    count: Annotated[Count, typer.Option("--count", help="How many prompts.", rich_help_panel=SAMPLING)] = 32
    seed: Annotated[
        Seed,
        typer.Option("--seed", help="The same seed and count give the same prompts.", rich_help_panel=SAMPLING),
    ] = 0
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out/--trained",
            help="Combinations of colour, shape and direction that training never saw, or others.",
            rich_help_panel=SAMPLING,
        ),
    ] = True
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """Options of `vq-wan-tiny grade`."""

    videos: Annotated[Location, path_argument(help="Folder of videos, 000.mkv or 000.mp4 and so on.")]
    prompts: Prompts = None
    as_json: AsJson = False
    verbose: Verbose = False


@app.command("prompts")
@takes_options(PromptsOptions)
def prompts_command(options: PromptsOptions) -> None:
    """Write captions and first frames of clips from the world that the models were trained on.

    Held-out prompts are for measuring; calibrate with others.

    For example:

        vq-wan-tiny prompts -o prompts

        vq-wan-tiny prompts -o calibration --count 8 --seed 1 --trained
    """
    from vq_wan_tiny.prompts import write_prompts

    set_up_logging(options.verbose)
    folder: Location = required(options.output, "--output")
    captions = write_prompts(folder, options.count, options.seed, held_out=options.held_out)
    report(
        f"Wrote {folder}",
        {"prompts": f"{options.count}, {'held out' if options.held_out else 'as trained'}", "first": captions[0]},
        result={"output": folder, "seed": options.seed, "held_out": options.held_out, "prompts": captions},
        as_json=options.as_json,
        next_steps=f"vq-eval fake-quant --model wan-tiny --prompts {folder} -o videos",
    )


@app.command("grade")
@takes_options(GradeOptions)
def grade_command(options: GradeOptions) -> None:
    """Measure whether each shape did what the caption says.

    Shares of shapes (direction, speed, turning, sizing) and of videos (first frame, background) that are right, with
    95 % confidence intervals over videos.

    For example:

        vq-wan-tiny grade videos/full --prompts prompts
    """
    from vq_wan_tiny.grade_videos import grade_videos

    set_up_logging(options.verbose)
    graded = grade_videos(options.videos, required(options.prompts, "--prompts"))
    report(f"As told in {options.videos}", graded.rows(), result=graded.to_json(), as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-wan-tiny` command."""
    run(app)
