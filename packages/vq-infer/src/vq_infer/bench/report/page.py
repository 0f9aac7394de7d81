"""A run as text: the summary on the terminal, and a page in Markdown."""

from collections.abc import Iterable, Sequence

from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.models.contenders import REFERENCE
from vq_infer.bench.report.results import Results, Row

HEADER = (
    "contender", "s a step", "times diffusers eager", "times torchao FP8", "first step, s", "with warm caches, s",
    "peak memory, GiB", "error", "W", "MHz",
)  # fmt: skip
NOT = "–"


def summary(results: Results) -> dict[str, str]:
    """One line for each contender, for the terminal."""
    rows = {}
    for row in results.rows:
        if row.step_seconds is None:
            rows[row.title] = f"not measured: {row.why_not}"
            continue
        parts = [f"{row.step_seconds:.3g} s a step"]
        if (ratio := results.ratio(row, REFERENCE)) is not None and row.name != REFERENCE:
            parts.append(f"{ratio:.2f} times diffusers eager")
        if row.memory and row.memory.allocated:
            parts.append(f"{row.memory.allocated / 2**30:.1f} GiB")
        if row.first is not None:
            warm = "" if row.restart_seconds is None else f", {row.restart_seconds:.1f} s with warm caches"
            parts.append(f"first step {row.first.seconds:.1f} s{warm}")
        rows[row.title] = ", ".join(parts) + (f" ({row.why_not})" if row.why_not else "")
    return rows


def page(results: Results, picture: str | None) -> str:
    """The whole run; `picture` is the path of its chart relative to the page."""
    parts = [f"## {results.workload.size}, {_size(results)}", "", *_conditions(results), ""]
    parts += _table(HEADER, (_cells(results, row) for row in results.rows if row.step_seconds is not None))
    parts += ["", *_notes(results), ""]
    if picture is not None:
        parts += [f"![Seconds a step, and where they go]({picture})", ""]
    for row in results.rows:
        if row.lines:
            parts += [*_details(row), ""]
    return "\n".join(parts)


def title(results: Results) -> str:
    """Title of the summary on the terminal."""
    return f"{results.workload.size}, {_size(results)} on {results.machine.device}"


def _size(results: Results) -> str:
    workload = results.workload
    size = f"{workload.width}x{workload.height}, {workload.num_frames} frames, {workload.tokens:,} tokens"
    if workload.blocks == workload.whole:
        return size
    what = f"{workload.blocks} of {workload.whole} blocks"
    return f"{size}, extrapolated from {what} and from one" if results.extrapolated else f"{size}, {what}"


def _conditions(results: Results) -> list[str]:
    machine, ceilings = results.machine, results.ceilings
    rates = ", ".join(f"{name} {rate / 1e12:,.4g} TFLOP/s" for name, rate in ceilings.matmul.items())
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    weights = f"the checkpoint {results.checkpoint}" if results.checkpoint else "random weights"
    return [
        f"{machine.device}, {results.date}; {versions}.",
        f"Measured there: matrix products {rates}; copies {ceilings.copy / 1e9:,.4g} GB/s.",
        f"A step is two passes, with the prompt and without, over {weights}. Command:",
        "",
        f"    {results.command}",
    ]


def _cells(results: Results, row: Row) -> list[str]:
    memory = row.memory.allocated / 2**30 if row.memory and row.memory.allocated else None
    return [
        row.title,
        _number(row.step_seconds, ".3g"),
        _number(results.ratio(row, REFERENCE), ".2f"),
        _number(results.ratio(row, "torchao_fp8"), ".2f"),
        _number(row.first.seconds if row.first else None, ".3g"),
        _number(row.restart_seconds, ".3g"),
        _number(memory, ".1f"),
        _number(row.error, ".2%"),
        _number(row.median_of("watts"), ".0f"),
        _number(row.median_of("megahertz"), ".0f"),
    ]


def _notes(results: Results) -> Iterable[str]:
    steps = [len(row.steady.seconds) for row in results.rows if row.steady]
    if steps:
        spread = max(row.steady.spread for row in results.rows if row.steady)
        yield (
            f"Medians of {min(steps)} to {max(steps)} steps under steady load; the widest spread from the fastest step "
            f"to the slowest is {spread:.1%}. The error is that of one prediction against diffusers, eager."
        )
        yield ""
    for row in results.rows:
        if row.first is not None:
            yield f"* {row.title} ran with {', '.join(row.first.runs_with)}."
        if row.why_not is not None:
            yield f"* {row.title}: {row.why_not}."


def _details(row: Row) -> Iterable[str]:
    total = sum(line.share.milliseconds for line in row.lines)
    floor = sum(line.floor_ms for line in row.lines)
    yield f"### {row.title}: one pass"
    yield ""
    header = ("kind", "ms", "share", "TFLOP", "GB", "floor, ms", "times its floor", "kernels")
    cells = []
    for line in row.lines:
        spent = line.share.milliseconds
        cells.append([
            str(line.kind),
            f"{spent:.4g}",
            f"{spent / total:.1%}",
            _number(line.flops / 1e12 or None, ".4g"),
            _number(line.bytes / 1e9 or None, ".4g"),
            _number(line.floor_ms or None, ".4g"),
            _number(spent / line.floor_ms if line.floor_ms and spent else None, ".2f"),
            ", ".join(f"`{_short(name)}`" for name in line.share.kernels) or _elsewhere(line.kind),
        ])  # fmt: skip
    cells.append(["all", f"{total:.4g}", "100%", "", "", f"{floor:.4g}", _number(total / floor, ".2f"), ""])
    yield from _table(header, cells)


def _elsewhere(kind: Kind) -> str:
    return "inside other kernels, or not told apart from them" if kind is not Kind.OTHER else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return lines + ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]


def _number(value: float | None, spec: str) -> str:
    return NOT if value is None else format(value, spec)


def _short(name: str, length: int = 60) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
