"""The page of `make proof`, as Markdown for people and JSON for machines."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from pages import outcome, table, verdict_cell, write_page
from proof.methods import METHODS
from proof.pair import PAIR_METHODS
from proof.real import Place, Real
from proof.suite import PAIR, Figure
from proof.synthetic import Sizes
from proof.verdicts import Verdict
from vq_core.numerics.scheme import SCHEMES, W8A8
from vq_wan_tiny.grade_videos import share_text
from wan_tiny.table_report import Line

NAME = "algorithms"


@dataclass(frozen=True)
class Run:
    """How it was measured."""

    command: str
    date: str
    torch: str
    device: str
    seconds: int
    seeds: int
    sizes: Sizes
    prompts: int
    steps: int


def markdown(run: Run, figures: Sequence[Figure], real: Real | None, verdicts: Sequence[Verdict]) -> str:
    """The page."""
    return f"""\
# What the algorithms do

Written by `{run.command}` on {run.date}: torch {run.torch}, {run.device}, {run.seconds} s in all.
The same figures, seed by seed, are in [{NAME}.json]({NAME}.json).

{outcome(verdicts)}

{table(("requirement", "limit", "worst case", "where", ""), map(_verdict_row, verdicts))}

## The methods

{table(("method", "what it does"), MEANING)}

Every method sees only the fit tokens; `gptq` and `auto` also choose on the held-out ones. Our methods are the packages'
functions, combined as `vq-algos` combines them. LLMC's are reimplemented from a description of what it computes, in
bfloat16 as it runs, without its clipping. LLMC's smoothing gets every fold here; in Wan it uses only three per block.

## Synthetic layers

{run.seeds} seeds of each layer; {run.sizes.channels} channels, {run.sizes.hidden} behind GELU.
{run.sizes.fit} fit tokens, {run.sizes.held_out} held-out tokens to choose by, {run.sizes.test} more to measure on,
all drawn independently. Inputs have massive channels, correlated channels, outlier tokens, and a modulation that
changes over eight buckets of sigma (tools/proof/synthetic.py); weights are Gaussian with heavy tails and a low-rank
part. W6A8 and W4A8 are always rotated, also where a row says RTN.

A figure is the output SNR in dB: noise over signal averaged over a layer's linears, then the SNR averaged over seeds.
Brackets: on tokens whose modulation is 1.5 times as strong as in calibration. ffn.2 has no fold, so smoothing skips it.

{_layer_tables(figures)}

### The feed-forward as a whole

Output SNR of both linears and the GELU between them. `auto` with the rescale divides the largest hidden channels before
GELU and multiplies them back after it, which changes the function slightly; in FP8 it does nothing.

{_pair_table(figures)}
{"" if real is None else _real_part(run, real)}
## Not covered

Real Wan weights were not available. The layers above imitate the structure of their inputs, and wan-tiny is a trained
model of the same architecture, but a tiny one. Neither says what the gain on a 14B model is. LightX2V's own kernels
were not measured either: quantization is simulated, with fp32 arithmetic.
"""


MEANING = (
    ("RTN", "rounds every weight to nearest, at the scale of its row's absmax"),
    ("LLMC's SmoothQuant", "as smoothquant, in bfloat16, and rounded with bfloat16 scales"),
    ("LLMC's AWQ", "searches the exponent of awq v2, but only on the model's first call; in bfloat16"),
    ("smoothquant", "s = max\\|X\\|^α / max\\|W\\|^(1−α)"),
    ("awq v1, v2", "s = mean\\|X\\|^r, in v1 over mean\\|W\\|^(1−r); r by the output error on sampled tokens"),
    ("noise", "s that minimises a model of the rounding noise of activations and weights, by gradient descent"),
    ("clip", "per row, the reduced scale with the least output error"),
    ("gptq", "rounds column by column, each compensating for the error of those before; damping by held-out tokens"),
    ("rotation", "rotates groups of 256 channels of input and weight, then RTN: how ConvRot files are published"),
    ("centered", "subtracts the mean of every channel where the layer has a fold, then RTN"),
    (
        "auto",
        "the best smoothing, then the best rounding, then the bias, all by held-out tokens; never worse than RTN",
    ),
)


def write(folder: Path, run: Run, figures: Sequence[Figure], real: Real | None, verdicts: Sequence[Verdict]) -> Path:
    """Write both files to `folder` and return the Markdown's path."""
    content = {
        **asdict(run),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "layers": [_compact(figure) for figure in figures],
        "models": None if real is None else asdict(real),
    }
    return write_page(folder, NAME, markdown(run, figures, real, verdicts), content)


def _compact(figure: Figure) -> dict[str, object]:
    """Without the figures of every bucket, which only the verdicts need."""
    kept = ("seed", "layer", "scheme", "method", "test_db", "drifted_db")
    return {name: round(value, 3) if isinstance(value := getattr(figure, name), float) else value for name in kept}


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    limits = (f"{verdict.asked:.4g}", f"{verdict.measured:.4g}")
    return verdict.demand, *limits, verdict.where, verdict_cell(verdict)


def _layer_tables(figures: Sequence[Figure]) -> str:
    names = list(dict.fromkeys(figure.layer for figure in figures if figure.layer != PAIR))
    tables = []
    for scheme in SCHEMES:
        measured = {figure.method for figure in figures if figure.scheme == scheme}
        rows = (
            (name, *(_cell(figures, scheme, layer, name) for layer in names)) for name in METHODS if name in measured
        )
        tables.append(f"### {scheme.upper()}\n\n{table(('method', *names), rows)}")
    return "\n\n".join(tables)


def _pair_table(figures: Sequence[Figure]) -> str:
    schemes = tuple(scheme.name for scheme in W8A8)
    rows = ((name, *(_cell(figures, scheme, PAIR, name) for scheme in schemes)) for name in PAIR_METHODS)
    return table(("method", *(scheme.upper() for scheme in schemes)), rows)


def _cell(figures: Sequence[Figure], scheme: str, layer: str, method: str) -> str:
    found = [f for f in figures if (f.scheme, f.layer, f.method) == (scheme, layer, method)]
    return f"{fmean(f.test_db for f in found):.1f} ({fmean(f.drifted_db for f in found):.1f})"


def _real_part(run: Run, real: Real) -> str:
    lines = table(("model", "transformer", "PSNR dB", "SSIM", "direction right"), map(_line_row, real.lines))
    models = dict.fromkeys(place.model for place in real.places)
    tables = "\n\n".join(
        f"### {model}, by linear\n\n{_places([p for p in real.places if p.model == model])}" for model in models
    )
    return f"""
## Trained models

Quantized with the commands (`vq-calib collect` with 8 prompts, `vq-algos smooth` and `quantize`, `vq-eval fake-quant`):
{run.prompts} held-out prompts, {run.steps} steps, PSNR and SSIM against the same model in full precision from the same
noise (bfloat16 on a GPU, float32 on the CPU). Direction is the share of shapes that move as the caption says. Brackets
hold 95 % confidence intervals, bootstrapped over videos. SmoothQuant is α 0.75 on every fold; all but auto round to
nearest. LLMC SmoothQuant and LLMC AWQ are its recipes: the three folds of a block that it uses. ConvRot is how rotated
files are published: every input rotated, weights rounded to nearest, no calibration. auto is for LightX2V, which does
not rotate; auto ComfyUI and auto native are for runtimes that do;
mixed leaves the linears with the largest errors in full precision, 0.4 MB more. W6A8 and W4A8 are weights of 6 and 4
bits in ComfyUI's formats, which are rotated: RTN is not calibrated. comfy-kitchen's own quantizer, which refines
scales, was 0.7 and 1.5 dB better than RTN on wan-tiny-hard (4 prompts, on 2026-12-01).

LLMC itself was run beside this on 2026-11-30, its own recipes on wan-tiny-hard with 4 prompts: 20.0 dB (RTN), 23.6
(SmoothQuant) and 23.4 (AWQ) in INT8 where the same recipes here gave 20.1, 23.6 and 23.6, and auto 51.8. What separates
them is outliers in inputs that its recipes do not smooth. On wan-tiny, which has none, the gap is 1.2 dB.

{lines}

Output SNR in dB on held-out tokens, as a median over the blocks, from the artifacts. For ffn.net.2 in INT8 auto it
excludes what the rescale through GELU changes, if that was chosen. to_v and add_v_proj contain the fold of the linear
that reads them, which scales their outputs: compare them only under the same smoothing.

{tables}
"""


def _places(places: Sequence[Place]) -> str:
    names = list(places[0].snr_db)
    rows: Iterable[tuple[str, ...]] = (
        (place.place, *("exact" if (db := place.snr_db[name]) is None else f"{db:.1f}" for name in names))
        for place in places
    )
    return table(("linear", *names), rows)


def _line_row(line: Line) -> tuple[str, ...]:
    psnr = "reference" if line.psnr_db is None else line.psnr_db.text(1)
    ssim = "reference" if line.ssim is None else line.ssim.text(3)
    return line.model, line.candidate, psnr, ssim, share_text(line.shares["direction"])
