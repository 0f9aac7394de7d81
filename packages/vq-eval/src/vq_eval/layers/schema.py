"""The schema of `layers.json`: what quantization costs in every linear and every block, and what to do about it."""

from importlib.metadata import version
from typing import Literal

from pydantic import Field

from vq_eval.record import ArtifactId, Branch, Record, SampledPrompt

KIND = "layers"
FORMAT = 1
JSON_NAME = "layers.json"
MARKDOWN_NAME = "layers.md"
PICTURE_NAME = "layers.png"
SENSITIVITY_PICTURE_NAME = "sensitivity.png"

Kind = Literal["linear", "block", "output"]
SuspectKind = Literal["linear", "group", "block", "condition"]
Unit = Literal["linears", "blocks"]


class Noise(Record):
    """Error of an output, in full precision's units.

    Attributes:
        snr_db: 10 log₁₀(signal power / noise power); None where there is no noise, or no signal.
        noise_to_signal: noise power / signal power; 0 where there is no signal.
    """

    snr_db: float | None
    noise_to_signal: float


class Cell(Record):
    """One place in one noise-level bucket and guidance branch; see `Place`."""

    bucket: int
    branch: Branch
    own: Noise | None
    in_place: Noise
    rounding: Noise | None


class Place(Record):
    """A linear, a block, or the output of a whole transformer.

    Attributes:
        component: its transformer.
        kind: what it is.
        name: `blocks.3.attn1.to_q`, `blocks.3`; empty for the output.
        block: number of the block in its stack; None for the output.
        place: what it is called in every block: `attn1.to_q`; empty for blocks and the output.
        own: its error where its input is full precision's. Of a block the noise is held against what the block adds to
            its input. None for the output.
        in_place: its error inside the quantized transformer, which began its call from full precision's latent: own and
            inherited. Of a block it is held against the block's whole output.
        rounding: the baseline of a linear: its `own`, had the model's weight been rounded to nearest, unsmoothed.
        share: of the `own.noise_to_signal` of all places of its kind; None for the output.
        cells: the same by bucket and branch, those that the sampler reached.
    """

    component: str
    kind: Kind
    name: str
    block: int | None
    place: str
    own: Noise | None
    in_place: Noise
    rounding: Noise | None
    share: float | None
    cells: tuple[Cell, ...]


class BucketCost(Record):
    """What one noise-level bucket and branch costs: error of the transformer's output, begun from the exact latent."""

    component: str
    bucket: int
    branch: Branch
    output: Noise


class Ranking(Record):
    """The most expensive first: linears and blocks by `own`, as `component.name`; buckets by error of the output."""

    linears: tuple[str, ...]
    blocks: tuple[str, ...]
    buckets: tuple[BucketCost, ...]


class Suspect(Record):
    """A place that is so much worse than it should be that something is likely broken there.

    Attributes:
        component: its transformer.
        kind: `group` where all linears that read one input are meant, `condition` for the embedded text or image.
        name: of the linear, group or block.
        linears: that are meant.
        snr_db: what was measured, of the worst one; None for no signal.
        expected_db: what it should be.
        sentence: what is said of it, whole.
    """

    component: str
    kind: SuspectKind
    name: str
    linears: tuple[str, ...]
    snr_db: float | None
    expected_db: float
    sentence: str


class Gain(Record):
    """End to end: the worst `left_out` units in full precision, the others quantized.

    Attributes:
        left_out: how many.
        added: those that the row before did not leave out, as `component.name`.
        latent_error: relative error of the last latent, free-running, mean over prompts.
        latent_cosine: its cosine, mean over prompts.
        psnr_db: of the videos, mean over prompts; None where every video is identical.
    """

    left_out: int
    added: tuple[str, ...]
    latent_error: float
    latent_cosine: float
    psnr_db: float | None


class Sensitivity(Record):
    """What leaving the worst linears or blocks in full precision gains; the first row leaves out none."""

    unit: Unit
    rows: tuple[Gain, ...]


class LayersReport(Record):
    """Where one candidate loses what.

    Attributes:
        tool: `vq-eval` and its version.
        model: as it was given.
        scheme: as `vq-algos quantize --scheme` takes it.
        weights, qparams: the artifacts.
        steps: of the sampler.
        prompts: that were sampled.
        places: linears in the order of the topology, then blocks, then outputs.
        ranking: which cost most.
        suspects: which are likely broken, the worst first; empty is how it should be.
        sensitivity: None unless it was asked for.
    """

    kind: Literal["layers"] = "layers"
    format: Literal[1] = 1
    tool: str = Field(default_factory=lambda: f"vq-eval {version('vq-eval')}")
    model: str
    scheme: str
    weights: ArtifactId
    qparams: ArtifactId
    steps: int
    prompts: tuple[SampledPrompt, ...]
    places: tuple[Place, ...]
    ranking: Ranking
    suspects: tuple[Suspect, ...]
    sensitivity: Sensitivity | None

    def without_cells(self) -> dict[str, object]:
        """The report for machines that want no figures by bucket."""
        return self.model_dump(mode="json", exclude={"places": {"__all__": {"cells"}}})
