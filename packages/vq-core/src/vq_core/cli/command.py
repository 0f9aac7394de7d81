"""Commands whose options are the fields of a dataclass, so that each is declared once."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeVar, get_args, get_origin

from typer.models import ArgumentInfo

from vq_core.cli.apart import require_apart
from vq_core.cli.options import PANELS
from vq_core.recipes.ranges import range_of, require_in_range

Options = TypeVar("Options")


def takes_options(
    kind: type[Options], *, without: Collection[str] = ()
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Make a typer command of a function of one `kind`: a dataclass whose fields are annotated with typer's options.

    An output that lies in an input is refused before the function is called.

    The help shows them panel by panel, in the order of `PANELS`. The command lacks the fields named by `without`,
    which keep their defaults. A number must lie in the range that its field is annotated with, see
    `vq_core.recipes.ranges`; the command raises a VqError for another one.
    """

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**said: Any) -> None:
            for field in taken:
                require_in_range(said[field.name], field.type, f"`--{field.name.replace('_', '-')}`")
            options = kind(**said)
            require_apart(options)
            function(options)

        taken = sorted((field for field in fields(kind) if field.name not in without), key=_panel)  # type: ignore[arg-type]
        command.__signature__ = inspect.Signature([_parameter(field) for field in taken])  # type: ignore[attr-defined]
        command.__annotations__ = {field.name: _typed_for_typer(field.type) for field in taken}
        command.__doc__ = function.__doc__
        return command

    return decorate


def _panel(field: Field[Any]) -> int:
    """The place of a field's panel; arguments stand first."""
    declared = field.type.__metadata__[-1]  # type: ignore[union-attr]
    return -1 if isinstance(declared, ArgumentInfo) else PANELS.index(declared.rich_help_panel)


def _parameter(field: Field[Any]) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_typed_for_typer(field.type)
    )


def _typed_for_typer(annotation: Any) -> Any:
    """`annotation` without the range of its number, which typer does not know, and which every number must have."""
    kind, declared = annotation.__origin__, annotation.__metadata__[-1]
    plain = [get_args(it)[0] if get_origin(it) is Annotated else it for it in get_args(kind) or (kind,)]
    if range_of(annotation) is None:
        if {int, float} & set(plain):
            raise TypeError(f"an option is a number without a range: {annotation}")
        return annotation
    return Annotated[reduce(or_, plain), declared]
