"""Where one candidate loses what: every linear and block beside its full-precision twin, on real activations."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

from torch import nn

from vq_core.artifacts.components import model_header
from vq_core.artifacts.videos import settings_of
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import Source, open_source
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample, read_samples
from vq_core.sampling.schedule import Call, calls_of
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import require_same_model
from vq_core.store.writer import ArtifactWriter, Header, create_artifact
from vq_eval.layers.figures import places_of, ranking_of
from vq_eval.layers.lockstep import Lockstep
from vq_eval.layers.markdown import to_markdown
from vq_eval.layers.noise_meter import NoiseMeter, SumRow, SumRows
from vq_eval.layers.picture import draw_layers, draw_sensitivity
from vq_eval.layers.schema import (
    FORMAT,
    JSON_NAME,
    KIND,
    MARKDOWN_NAME,
    PICTURE_NAME,
    SENSITIVITY_PICTURE_NAME,
    LayersReport,
    Ranking,
    Sensitivity,
)
from vq_eval.layers.sensitivity import (
    Outcome,
    SensitivityRequest,
    gain_of,
    outcome_of,
    restore,
    sample_exact,
    stages_of,
)
from vq_eval.layers.suspects import find_suspects
from vq_eval.record import SampledPrompt
from vq_eval.videos.candidates import NamedCandidate

# Working folders of the artifact while it is made: resumed from, and removed before it is finished.
_SUMS, _EXACT, _OUTCOMES = "sums", "exact", "outcomes"


def measure_layers(
    model: str,
    candidate: NamedCandidate,
    prompts: Location,
    sampling: Sampling,
    output: Location,
    *,
    sensitivity: SensitivityRequest | None = None,
    loras: Sequence[LoraRequest] = (),
    device: str | None = None,
    resume: bool = False,
) -> LayersReport:
    """Write what each linear and block of `candidate` costs to the artifact `output`.

    The model and its quantized twin are in memory together, with the activations of a few linears. Prompt i has seed
    `sampling.seed` + i.

    Raises:
        VqError: the candidate is of another model, the prompts cannot be read, the settings or the device do not fit,
            `output` exists, a transformer is never called, more is to be left out than there is, or something is NaN.
    """
    source = open_source(model, loras)
    require_same_model(candidate.weights.artifact, source.fingerprints, model)
    pipeline = VideoPipeline(model, device, source=source)
    pipeline.check(sampling)
    schedule = pipeline.schedule(sampling)
    calls = {component: calls_of(schedule, component, guided=sampling.guided) for component in source.components}
    samples = read_samples(prompts, pipeline.inputs)
    with create_artifact(output, _header(source, candidate, samples, sampling, pipeline), resume=resume) as writer:
        run = _Run(model, source, candidate, samples, sampling, pipeline.device, writer)
        run.add_up(calls, exact_too=sensitivity is not None)
        places = places_of(run.sums())
        ranking = ranking_of(places)
        topologies = {name: component.topology for name, component in source.components.items()}
        report = LayersReport(
            model=model,
            scheme=candidate.qparams.scheme.name,
            weights=candidate.weights_id,
            qparams=candidate.qparams_id,
            steps=sampling.steps,
            prompts=tuple(
                SampledPrompt(prompt=it.prompt, negative_prompt=it.negative_prompt, seed=sampling.seed + index)
                for index, it in enumerate(samples)
            ),
            places=places,
            ranking=ranking,
            suspects=find_suspects(places, topologies),
            sensitivity=None if sensitivity is None else run.sensitivity(sensitivity, ranking),
        )
        _write(report, writer)
    return report


def _write(report: LayersReport, writer: ArtifactWriter) -> None:
    writer.write_text(JSON_NAME, report.model_dump_json(indent=1) + "\n")
    writer.write_text(MARKDOWN_NAME, to_markdown(report))
    draw_layers(report, writer.path(PICTURE_NAME))
    if report.sensitivity is not None:
        draw_sensitivity(report.sensitivity, writer.path(SENSITIVITY_PICTURE_NAME))
    for folder in (_SUMS, _EXACT, _OUTCOMES):
        shutil.rmtree(writer.path(folder), ignore_errors=True)


@dataclass(frozen=True)
class _Run:
    """What is sampled for one `measure_layers`."""

    model: str
    source: Source
    candidate: NamedCandidate
    samples: Sequence[Sample]
    sampling: Sampling
    device: str
    writer: ArtifactWriter

    def add_up(self, calls: Mapping[str, Sequence[Call]], *, exact_too: bool) -> None:
        """Sample every prompt that is not added up yet; keep its latent and frames where `exact_too`."""

        def done(index: int) -> bool:
            return self.writer.has(_sums_file(index)) and (not exact_too or self.writer.has(_exact_file(index)))

        left = [index for index in range(len(self.samples)) if not done(index)]
        if not left:
            return
        pipeline = self._pipeline()
        encoded = pipeline.encode([self.samples[index] for index in left], self.sampling)
        twins = self._twins()
        with progress("layers", len(left) * self.sampling.steps, "step") as advance:
            for index, conditions in zip(left, encoded, strict=True):
                self._add_up_one(pipeline, twins, calls, index, conditions, advance, exact_too)

    def _add_up_one(
        self,
        pipeline: VideoPipeline,
        twins: Mapping[str, nn.Module],
        calls: Mapping[str, Sequence[Call]],
        index: int,
        conditions: Conditions,
        advance: Advance,
        exact_too: bool,
    ) -> None:
        seed = self.sampling.seed + index
        meters = {
            component: NoiseMeter(
                component,
                calls[component],
                transformer,
                twins[component],
                self.candidate.weights.components[component],
                self.candidate.qparams.scheme,
                self.device,
            )
            for component, transformer in pipeline.transformers.items()
        }
        with ExitStack() as stack:
            for component, meter in meters.items():
                full, twin = pipeline.transformers[component], twins[component]
                stack.enter_context(Lockstep(full, twin, meter.names, meter.compare).attached())
            if exact_too:
                exact = sample_exact(pipeline, conditions, self.sampling, seed, advance)
                self.writer.write_tensors(_exact_file(index), exact)
            else:
                pipeline.denoise(conditions, self.sampling, seed, advance)
        rows = [row for meter in meters.values() for row in meter.finish()]
        self.writer.write_text(_sums_file(index), SumRows(rows=tuple(rows)).model_dump_json() + "\n")

    def sums(self) -> list[SumRow]:
        """What was added up, of all prompts."""
        files = [self.writer.path(_sums_file(index)) for index in range(len(self.samples))]
        return [row for file in files for row in SumRows.model_validate_json(file.read_bytes()).rows]

    def sensitivity(self, request: SensitivityRequest, ranking: Ranking) -> Sensitivity:
        """Sample every prompt with more and more left out; only the quantized model is in memory."""
        topologies = {name: component.topology for name, component in self.source.components.items()}
        stages = stages_of(request, ranking, topologies)
        twins = self._twins()
        pipeline = self._pipeline(twins)
        encoded = pipeline.encode(self.samples, self.sampling)
        rows = []
        with progress("sensitivity", len(stages) * len(self.samples) * self.sampling.steps, "step") as advance:
            for stage in stages:
                for component, linears in stage.linears.items():
                    restore(twins[component], self.candidate.weights.components[component], linears, self.device)
                outcomes = [
                    self._outcome(pipeline, request, stage.count, index, conditions, advance)
                    for index, conditions in enumerate(encoded)
                ]
                rows.append(gain_of(stage, outcomes))
        return Sensitivity(unit=request.unit, rows=tuple(rows))

    def _outcome(
        self,
        pipeline: VideoPipeline,
        request: SensitivityRequest,
        count: int,
        index: int,
        conditions: Conditions,
        advance: Advance,
    ) -> Outcome:
        file = f"{_OUTCOMES}/{request.unit}_{count:04d}_{index:03d}.json"
        if not self.writer.has(file):
            seed, exact = self.sampling.seed + index, self.writer.path(_exact_file(index))
            outcome = outcome_of(pipeline, conditions, self.sampling, seed, exact, advance)
            self.writer.write_text(file, outcome.model_dump_json() + "\n")
        return Outcome.model_validate_json(self.writer.path(file).read_bytes())

    def _pipeline(self, transformers: Mapping[str, nn.Module] | None = None) -> VideoPipeline:
        load = None if transformers is None else transformers.__getitem__
        return VideoPipeline(self.model, self.device, load_transformer=load, source=self.source)

    def _twins(self) -> dict[str, nn.Module]:
        """The candidate's transformers, on the device."""
        twins = self._pipeline().transformers
        self.candidate.apply(twins, self.device)
        return twins


def _sums_file(index: int) -> str:
    return f"{_SUMS}/{index:03d}.json"


def _exact_file(index: int) -> str:
    return f"{_EXACT}/{index:03d}.safetensors"


def _header(
    source: Source,
    candidate: NamedCandidate,
    samples: Sequence[Sample],
    sampling: Sampling,
    pipeline: VideoPipeline,
) -> Header:
    return model_header(
        source,
        KIND,
        FORMAT,
        tool=f"vq-eval {version('vq-eval')}",
        settings={
            **settings_of(samples, sampling, pipeline),
            "scheme": candidate.qparams.scheme.name,
        },
        parents={"smoothed-weights": candidate.weights_id.digest, "quant-params": candidate.qparams_id.digest},
    )
