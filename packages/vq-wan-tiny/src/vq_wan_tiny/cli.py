"""`vq-wan-tiny`: prompts from the world of the built-in models, and grades of the videos made from them."""

from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.options import AsJson, Output, Prompts, Verbose, path_argument
from vq_core.remote.location import Location

app = new_app("Prompts for the built-in models, and grades: did each shape do what its caption says?")

Count = Annotated[int, typer.Option("--count", help="How many prompts.")]
WorldSeed = Annotated[int, typer.Option("--seed", help="The same seed and count give the same prompts.")]
HeldOut = Annotated[
    bool,
    typer.Option(
        "--held-out/--trained", help="Combinations of colour, shape and direction that training never saw, or others."
    ),
]
Videos = Annotated[Location, path_argument(help="Folder of videos, 000.mkv or 000.mp4 and so on.")]


@app.command("prompts")
def prompts_command(
    output: Output = None,
    count: Count = 32,
    seed: WorldSeed = 0,
    held_out: HeldOut = True,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write captions and first frames of clips from the world that the models were trained on.

    Held-out prompts are for measuring; calibrate with others.

    For example:

        vq-wan-tiny prompts -o prompts

        vq-wan-tiny prompts -o calibration --count 8 --seed 1 --trained
    """
    from vq_wan_tiny.prompts import write_prompts

    set_up_logging(verbose)
    folder: Location = required(output, "--output")
    captions = write_prompts(folder, count, seed, held_out=held_out)
    report(
        f"Wrote {folder}",
        {"prompts": f"{count}, {'held out' if held_out else 'as trained'}", "first": captions[0]},
        result={"output": folder, "seed": seed, "held_out": held_out, "prompts": captions},
        as_json=as_json,
        next_steps=f"vq-eval fake-quant --model wan-tiny --prompts {folder} -o videos",
    )


@app.command("grade")
def grade_command(videos: Videos, prompts: Prompts = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Measure whether each shape did what the caption says.

    Shares of shapes (direction, speed, turning, sizing) and of videos (first frame, background) that are right, with
    95 % confidence intervals over videos.

    For example:

        vq-wan-tiny grade videos/full --prompts prompts
    """
    from vq_wan_tiny.grade_videos import grade_videos

    set_up_logging(verbose)
    graded = grade_videos(videos, required(prompts, "--prompts"))
    report(f"As told in {videos}", graded.rows(), result=graded.to_json(), as_json=as_json)


def main() -> None:
    """Entry point of the `vq-wan-tiny` command."""
    run(app)
