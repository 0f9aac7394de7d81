"""The options of each command, one field each. This module has no heavy imports."""

from dataclasses import dataclass
from typing import Annotated

import typer

from vq_core.cli.options import (
    INPUT,
    METHOD,
    OUTPUT,
    SEVERAL_GPUS,
    AsJson,
    ModelRunOptions,
    Output,
    Resume,
    Verbose,
    path_argument,
)
from vq_core.recipes.ranges import Count, Seconds, TokenCount
from vq_core.remote.location import Location


@dataclass(frozen=True, kw_only=True)
class RunOptions(ModelRunOptions):
    """Options of `collect` and `plan`."""

    tokens: Annotated[
        TokenCount | None,
        typer.Option(
            "--tokens",
            help="Rows of each input to keep, and a quarter more held out; 0 for none.  "
            "[default: 4 × the model's width, at most 4096]",
            rich_help_panel=METHOD,
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            "--part", help="K/N: every Nth prompt from the Kth; `merge` joins the parts.", rich_help_panel=SEVERAL_GPUS
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CollectOptions(RunOptions):
    """Options of `vq-calib collect`."""

    output: Output = None
    resume: Resume = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class PlanOptions(RunOptions):
    """Options of `vq-calib plan`."""

    seconds_per_step: Annotated[
        Seconds | None,
        typer.Option(
            "--seconds-per-step",
            help="Seconds per step in an earlier run; adds an estimate of the time.",
            rich_help_panel=INPUT,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Options of `vq-calib merge`."""

    parts: Annotated[list[Location], path_argument(help="Statistics from `vq-calib collect --part K/N`.")]
    output: Output = None
    resume: Resume = False
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Options of `vq-calib show`."""

    stats: Annotated[Location, path_argument(help="Statistics from `vq-calib collect`.")]
    groups: Annotated[
        bool,
        typer.Option(
            "--groups", help="One row per group instead of one per place in the block.", rich_help_panel=OUTPUT
        ),
    ] = False
    top: Annotated[
        Count | None,
        typer.Option("--top", help="Only the N groups with the largest ratio.", rich_help_panel=OUTPUT),
    ] = None
    as_json: AsJson = False
