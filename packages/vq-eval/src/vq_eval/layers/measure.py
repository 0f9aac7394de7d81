"""What each linear and block of one candidate costs, beside its full-precision twin and on real activations."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from torch import nn

from vq_core.model.lora_request import LoraRequest
from vq_core.remote.location import Location
from vq_core.runtime.progress import progress
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.schedule import Call, calls_of
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import ArtifactWriter, create_artifact
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
    Sensitivity,
    Unit,
)
from vq_eval.layers.sensitivity import (
    LeftOut,
    Outcome,
    SensitivityRequest,
    gain_of,
    outcome_of,
    restore,
    sample_exact,
    stages_of,
)
from vq_eval.layers.suspects import find_suspects
from vq_eval.videos.candidates import NamedCandidate
from vq_eval.videos.model_run import ModelRun, open_run

# Working folders in the artifact: a resumed run reads them, and they are removed before it is finished.
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
        VqError: see `open_run`; `output` exists, a transformer is never called, `sensitivity` asks for more than there
            is, or something is NaN.
    """
    run = open_run(model, [candidate.weights], prompts, sampling, loras, device)
    schedule = run.pipeline.schedule(sampling)
    calls = {name: calls_of(schedule, name, guided=sampling.guided) for name in run.source.components}
    topologies = {name: component.topology for name, component in run.source.components.items()}
    scheme = candidate.qparams.scheme
    parents = {"smoothed-weights": candidate.weights_id.digest, "quant-params": candidate.qparams_id.digest}
    with create_artifact(output, run.header(KIND, FORMAT, {"scheme": scheme}, parents), resume=resume) as writer:
        measured = _Measured(run, candidate, writer)
        measured.add_up(calls, exact_too=sensitivity is not None)
        places = places_of(measured.sums())
        ranking = ranking_of(places)
        report = LayersReport(
            model=model,
            scheme=scheme,
            weights=candidate.weights_id,
            qparams=candidate.qparams_id,
            steps=sampling.steps,
            prompts=run.sampled_prompts,
            places=places,
            ranking=ranking,
            suspects=find_suspects(places, topologies),
            sensitivity=None
            if sensitivity is None
            else measured.sensitivity(sensitivity.unit, stages_of(sensitivity, ranking, topologies)),
        )
        _write(report, writer)
    return report


def _write(report: LayersReport, writer: ArtifactWriter) -> None:
    writer.write_text(JSON_NAME, report.model_dump_json(indent=1) + "\n")
    writer.write_text(MARKDOWN_NAME, to_markdown(report))
    draw_layers(report, writer.draft(PICTURE_NAME))
    writer.adopt(PICTURE_NAME)
    if report.sensitivity is not None:
        draw_sensitivity(report.sensitivity, writer.draft(SENSITIVITY_PICTURE_NAME))
        writer.adopt(SENSITIVITY_PICTURE_NAME)
    for folder in (_SUMS, _EXACT, _OUTCOMES):
        shutil.rmtree(writer.path(folder), ignore_errors=True)


@dataclass(frozen=True)
class _Measured:
    """What one `measure_layers` has measured so far."""

    run: ModelRun
    candidate: NamedCandidate
    writer: ArtifactWriter

    def add_up(self, calls: Mapping[str, Sequence[Call]], *, exact_too: bool) -> None:
        """Sample every prompt that is not added up yet; keep its latent and frames where `exact_too`."""

        def done(index: int) -> bool:
            return self.writer.has(_sums_file(index)) and (not exact_too or self.writer.has(_exact_file(index)))

        left = [index for index in range(len(self.run.samples)) if not done(index)]
        if not left:
            return
        pipeline, sampling = self._pipeline(), self.run.sampling
        encoded = self.run.encode(pipeline, left)
        twins = self._twins()
        with progress("layers", len(left) * sampling.steps, "step") as advance:
            for index, conditions in encoded.items():
                meters = [
                    self._meter(name, calls[name], transformer, twins[name])
                    for name, transformer in pipeline.transformers.items()
                ]
                with ExitStack() as stack:
                    for meter in meters:
                        lockstep = Lockstep(meter.full, meter.twin, meter.names, meter.compare)
                        stack.enter_context(lockstep.attached())
                    if exact_too:
                        exact = sample_exact(pipeline, conditions, sampling, self.run.seed(index), advance)
                        self.writer.write_tensors(_exact_file(index), exact)
                    else:
                        pipeline.denoise(conditions, sampling, self.run.seed(index), advance)
                rows = tuple(row for meter in meters for row in meter.finish())
                self.writer.write_text(_sums_file(index), SumRows(rows=rows).model_dump_json() + "\n")

    def _meter(self, component: str, calls: Sequence[Call], full: nn.Module, twin: nn.Module) -> NoiseMeter:
        weights = self.candidate.weights.components[component]
        return NoiseMeter(component, calls, full, twin, weights, self.candidate.qparams, self.run.pipeline.device)

    def _restore(self, component: str, twin: nn.Module, linears: Sequence[str]) -> None:
        weights, qparams = self.candidate.weights.components[component], self.candidate.qparams
        restore(twin, weights, qparams, component, linears, self.run.pipeline.device)

    def sums(self) -> list[SumRow]:
        """The sums of all prompts."""
        files = [self.writer.path(_sums_file(index)) for index in range(len(self.run.samples))]
        return [row for file in files for row in SumRows.model_validate_json(file.read_bytes()).rows]

    def sensitivity(self, unit: Unit, stages: Sequence[LeftOut]) -> Sensitivity:
        """Sample every prompt at each of `stages`; only the quantized model is in memory."""
        twins = self._twins()
        pipeline, sampling = self._pipeline(twins), self.run.sampling
        encoded = self.run.encode(pipeline, range(len(self.run.samples)))
        rows = []
        with progress("sensitivity", len(stages) * len(encoded) * sampling.steps, "step") as advance:
            for stage in stages:
                for component, linears in stage.linears.items():
                    self._restore(component, twins[component], linears)
                outcomes = []
                for index, conditions in encoded.items():
                    file = f"{_OUTCOMES}/{unit}_{stage.count:04d}_{index:03d}.json"
                    if not self.writer.has(file):
                        exact = self.writer.path(_exact_file(index))
                        outcome = outcome_of(pipeline, conditions, sampling, self.run.seed(index), exact, advance)
                        self.writer.write_text(file, outcome.model_dump_json() + "\n")
                    outcomes.append(Outcome.model_validate_json(self.writer.path(file).read_bytes()))
                rows.append(gain_of(stage, outcomes))
        return Sensitivity(unit=unit, rows=tuple(rows))

    def _pipeline(self, transformers: Mapping[str, nn.Module] | None = None) -> VideoPipeline:
        load = None if transformers is None else transformers.__getitem__
        device, source = self.run.pipeline.device, self.run.source
        return VideoPipeline(self.run.model, device, load_transformer=load, source=source)

    def _twins(self) -> dict[str, nn.Module]:
        """The candidate's transformers, on the device."""
        twins = self._pipeline().transformers
        self.candidate.apply(twins, self.run.pipeline.device)
        return twins


def _sums_file(index: int) -> str:
    return f"{_SUMS}/{index:03d}.json"


def _exact_file(index: int) -> str:
    return f"{_EXACT}/{index:03d}.safetensors"
