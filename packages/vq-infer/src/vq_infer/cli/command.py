"""Commands whose options are the fields of `VideoOptions`, so that each is written once for all of them."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any

from vq_core.cli.options import AsJson, Verbose
from vq_infer.options import VideoOptions

RunWith = Callable[[VideoOptions, bool, bool], None]


def takes_options(*, without: Collection[str]) -> Callable[[RunWith], Callable[..., None]]:
    """Make a typer command of a function of options, `as_json` and `verbose`; it lacks the options `without`."""

    def decorate(function: RunWith) -> Callable[..., None]:
        def command(**said: Any) -> None:
            as_json, verbose = said.pop("as_json"), said.pop("verbose")
            function(VideoOptions(**said), as_json, verbose)

        taken = [(field.name, field.type, field.default) for field in fields(VideoOptions) if field.name not in without]
        own = [("as_json", AsJson, False), ("verbose", Verbose, False)]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
                for name, annotation, default in (*taken, *own)
            ]
        )
        command.__annotations__ = {name: annotation for name, annotation, _ in (*taken, *own)}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate
