"""Layers of a tiny model, and its twins side by side."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from vq_core.model.source import open_source
from vq_core.remote.location import NamedPath
from vq_core.sampling.schedule import Call
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import Artifact
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_core.testing.tiny_models import Variant
from vq_core.topology import Topology
from vq_eval.layers.lockstep import Lockstep
from vq_eval.layers.measure import measure_layers
from vq_eval.layers.noise_meter import NoiseMeter, SumRow
from vq_eval.layers.schema import JSON_NAME, LayersReport, Suspect
from vq_eval.layers.sensitivity import SensitivityRequest
from vq_eval.videos.candidates import open_named

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]

SMALL = Sampling(steps=2, height=32, width=32, num_frames=5)


@pytest.fixture(scope="session")
def layered(
    tiny_model: TinyModel, artifacts: Artifacts, one_prompt: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Layers of `t2v` in INT8, with the sensitivity of its worst linears; not to be changed."""
    weights, qparams = artifacts("t2v")
    output = tmp_path_factory.mktemp("layers") / "layers"
    (candidate,) = open_named([weights], [NamedPath("int8", qparams)])
    sensitivity = SensitivityRequest("linears", (1, 30))
    model = str(tiny_model("t2v"))
    measure_layers(model, candidate, one_prompt, SMALL, output, sensitivity=sensitivity, device="cpu")
    return output


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., Path]:
    """Write the artifact `artifact` anew to `path` with `change`d tensors, by component: a valid one, however wrong."""

    def write(
        artifact: Artifact,
        path: Path,
        change: Callable[[dict[str, Tensor]], None],
        parents: Mapping[str, str] | None = None,
    ) -> Path:
        manifest = artifact.manifest
        header = Header(
            kind=manifest.kind,
            format=manifest.format,
            tool="test",
            family=manifest.family,
            model=manifest.model,
            components={
                name: ComponentHeader(entry.folder, entry.fingerprint, entry.config)
                for name, entry in manifest.components.items()
            },
            settings=manifest.settings,
            parents=dict(parents if parents is not None else manifest.parents),
        )
        with create_artifact(path, header) as writer:
            for name, entry in manifest.components.items():
                tensors = artifact.tensors(name, entry.tensors)
                change(tensors)
                for file in sorted({it.file for it in entry.tensors.values()}):
                    of_file = {tensor: tensors[tensor] for tensor, it in entry.tensors.items() if it.file == file}
                    writer.write_tensors(file, of_file)
        return path

    return write


@pytest.fixture
def meter_of() -> Callable[[Any, nn.Module], NoiseMeter]:
    """`meter_of(twins, twin)`: the meter of one call of the full-precision transformer and `twin`."""

    def meter(twins: Any, twin: nn.Module) -> NoiseMeter:
        calls = (Call(0, 0, 700.0, 5),)
        return NoiseMeter("transformer", calls, twins.full, twin, twins.weights, twins.qparams, "cpu")

    return meter


@pytest.fixture
def measured(meter_of: Callable[[Any, nn.Module], NoiseMeter]) -> Callable[[Any, nn.Module], list[SumRow]]:
    """`measured(twins, twin)`: the sums of that call."""

    def measure(twins: Any, twin: nn.Module) -> list[SumRow]:
        meter = meter_of(twins, twin)
        with Lockstep(twins.full, twin, meter.names, meter.compare).attached():
            twins.call(twins.full)
        return meter.finish()

    return measure


@pytest.fixture
def report(layered: Path) -> LayersReport:
    """The report of `layered`."""
    return LayersReport.model_validate_json((layered / JSON_NAME).read_bytes())


@pytest.fixture(scope="session")
def topology(tiny_model: TinyModel) -> Topology:
    """The topology of `t2v`."""
    return open_source(str(tiny_model("t2v"))).components["transformer"].topology


@pytest.fixture(scope="session")
def suspect() -> Suspect:
    """A suspect in `layered`, made up."""
    return Suspect(
        component="transformer",
        kind="linear",
        name="blocks.1.ffn.net.2",
        linears=("blocks.1.ffn.net.2",),
        snr_db=0,
        expected_db=30,
        sentence="blocks.1.ffn.net.2 is [broken].",
    )
