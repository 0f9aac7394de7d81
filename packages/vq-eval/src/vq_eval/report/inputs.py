"""The inputs of a report: a comparison, and optionally a trajectory and the layers of candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from vq_core.artifacts.made_videos import made_videos, require_unaltered
from vq_core.errors import VqError
from vq_core.files.given_file import read_given
from vq_core.remote.location import Location, parse_location
from vq_core.remote.transfer import exists, local_copy
from vq_core.store.manifest import FILE_NAME
from vq_core.store.reader import open_artifact
from vq_eval.compare import schema as compare_report
from vq_eval.compare.schema import CompareReport, Row
from vq_eval.layers import schema as layers_report
from vq_eval.layers.schema import LayersReport
from vq_eval.report.provenance import digest_of
from vq_eval.trajectories import schema as trajectory_report
from vq_eval.trajectories.schema import TrajectoryReport

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class ReportInputs:
    """Everything measured that the report shows.

    Attributes:
        comparison: of videos.
        trajectory: drift over the steps; None where it was not measured.
        layers: by the name of the row made from the same quant params, or by the name of those where there is none.
    """

    comparison: CompareReport
    trajectory: TrajectoryReport | None
    layers: dict[str, LayersReport]


def read_inputs(comparison: Location, trajectory: Location | None, layers: Sequence[Location]) -> ReportInputs:
    """Read the outputs of the three commands.

    Raises:
        VqError: a folder lacks its JSON, is of another format, or is damaged; the trajectory is of other candidates
            than the comparison; or two of `layers` are about one candidate.
    """
    name = compare_report.JSON_NAME
    compared = _parse(CompareReport, local_copy(comparison, only=[name]) / name, "compare")
    drift = None
    if trajectory is not None:
        drift = _measured(TrajectoryReport, trajectory, trajectory_report)
        _require_same_candidates(compared, drift, trajectory)
    by_row: dict[str, LayersReport] = {}
    for folder in layers:
        found = _measured(LayersReport, folder, layers_report)
        name = _row_of(compared, found)
        if name in by_row:
            raise VqError(f"{folder} is about {name}, as another of --layers is: give one for each candidate.")
        by_row[name] = found
    return ReportInputs(compared, drift, by_row)


def folder_of(row: Row) -> Path:
    """The folder of a row's videos, still those that were compared.

    Raises:
        VqError: it is gone, or its artifact was made again or one of its videos altered since.
    """
    location = parse_location(row.folder)
    if not exists(location):
        raise VqError(
            f"The videos of `{row.name}` are no longer at {location}: run this where compare ran, or compare again."
        )
    if row.provenance is None:
        return local_copy(location)
    artifact = parse_location(row.provenance.path)
    if digest_of(local_copy(artifact, only=[FILE_NAME])) != row.provenance.digest:
        raise VqError(f"The videos of `{row.name}` at {artifact} are not those that were compared: compare them again.")
    folder, made = local_copy(location), made_videos(location)
    for video in row.videos:
        measured = folder / video.file
        if video.file not in row.provenance.altered:
            require_unaltered(made, measured)
        if (played := measured.with_suffix(".mp4")).is_file() and played != measured:
            require_unaltered(made, played)
    return folder


def _measured(schema: type[T], location: Location, of: ModuleType) -> T:
    artifact = open_artifact(location, of.KIND, of.FORMAT)
    artifact.verify_file(of.JSON_NAME)
    return _parse(schema, artifact.path / of.JSON_NAME, of.KIND)


def _parse(schema: type[T], path: Path, command: str) -> T:
    try:
        return schema.model_validate_json(read_given(path))
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
