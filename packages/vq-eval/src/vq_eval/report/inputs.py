"""What a report is made from: a comparison, and where they were made, a trajectory and the layers of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vq_core.errors import VqError
from vq_core.remote.location import Location, parse_location
from vq_core.remote.transfer import exists, local_copy
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import open_artifact
from vq_eval.compare import schema as compare_report
from vq_eval.compare.schema import CompareReport, Row
from vq_eval.layers import schema as layers_report
from vq_eval.layers.schema import LayersReport
from vq_eval.report.manifests import digest_of
from vq_eval.trajectories import schema as trajectory_report
from vq_eval.trajectories.schema import TrajectoryReport

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class ReportInputs:
    """Everything measured that the report shows.

    Attributes:
        comparison: of videos.
        trajectory: drift over the steps; None where it was not measured.
        layers: by the name of the row that they are about, or of their quant params where no row was made from those.
    """

    comparison: CompareReport
    trajectory: TrajectoryReport | None
    layers: dict[str, LayersReport]


def read_inputs(comparison: Location, trajectory: Location | None, layers: Sequence[Location]) -> ReportInputs:
    """Read what the three commands have written.

    Raises:
        VqError: a folder lacks its JSON, is of another format, or is damaged; the trajectory is of other candidates
            than the comparison; or two of `layers` are about one candidate.
    """
    compared = _parse(
        CompareReport, local_copy(comparison, only=[compare_report.JSON_NAME]) / compare_report.JSON_NAME, "compare"
    )
    drift = None
    if trajectory is not None:
        drift = _measured(
            TrajectoryReport, trajectory, trajectory_report.KIND, trajectory_report.FORMAT, trajectory_report.JSON_NAME
        )
        _require_same_candidates(compared, drift, trajectory)
    by_row: dict[str, LayersReport] = {}
    for folder in layers:
        found = _measured(LayersReport, folder, layers_report.KIND, layers_report.FORMAT, layers_report.JSON_NAME)
        name = _row_of(compared, found)
        if name in by_row:
            raise VqError(f"{folder} is about {name}, as another of --layers is: give one for each candidate.")
        by_row[name] = found
    return ReportInputs(compared, drift, by_row)


def folder_of(row: Row) -> Path:
    """The folder of a row's videos, which are the ones that were compared.

    Raises:
        VqError: it is gone, or its artifact was made anew since.
    """
    location = parse_location(row.folder)
    if not exists(location):
        raise VqError(
            f"The videos of `{row.name}` are no longer at {location}: run this where compare ran, or compare again."
        )
    if row.provenance is not None:
        artifact = parse_location(row.provenance.path)
        if digest_of(local_copy(artifact, only=[FILE_NAME])) != row.provenance.digest:
            raise VqError(
                f"The videos of `{row.name}` at {artifact} are not those that were compared: compare them again."
            )
    return local_copy(location)


def _measured(schema: type[T], location: Location, kind: str, fmt: int, file: str) -> T:
    artifact = open_artifact(location, kind, fmt)
    artifact.verify_file(file)
    return _parse(schema, artifact.path / file, kind)


def _parse(schema: type[T], path: Path, command: str) -> T:
    try:
        return schema.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise VqError(f"{path} is missing: give the folder that `vq-eval {command}` has written.") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise VqError(
            f"{path} is not what this version of `vq-eval {command}` writes ({field}: {first['msg']}): run it again."
        ) from None


def _require_same_candidates(compared: CompareReport, drift: TrajectoryReport, where: Location) -> None:
    """A name must not mean one candidate in the comparison and another in the trajectory."""
    parents = {row.name: row.provenance.parents for row in compared.rows if row.provenance is not None}
    for candidate in drift.candidates:
        known = parents.get(candidate.name, {}).get("quant-params")
        if known is not None and candidate.qparams is not None and candidate.qparams.digest != known:
            raise VqError(
                f"`{candidate.name}` of {where} has other quant params than `{candidate.name}` of the comparison: "
                "measure the trajectory of the same artifacts."
            )


def _row_of(compared: CompareReport, layers: LayersReport) -> str:
    for row in compared.rows:
        if row.provenance is not None and row.provenance.parents.get("quant-params") == layers.qparams.digest:
            return row.name
    return Path(layers.qparams.path).name
