from pathlib import Path

import pytest

from vq_calib.planning.settings import settings_of
from vq_core.artifacts.stats import open_stats, stats_header
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import create_artifact


def test_settings_are_read_as_they_were_written(stats: Path, sampling: Sampling) -> None:
    settings = settings_of(open_stats(stats))
    assert settings.model_dump() == open_stats(stats).artifact.manifest.settings
    assert [entry.split for entry in settings.prompts] == ["fit", "held-out"]
    assert (settings.steps, settings.total_prompts, settings.parts, settings.tokens) == (sampling.steps, 2, None, 256)


def test_statistics_of_another_writer_are_refused(stats: Path, tmp_path: Path) -> None:
    model = open_stats(stats).artifact.manifest.model
    with create_artifact(tmp_path / "other", stats_header("test", open_source(model), {"prompts": 1})):
        pass
    with pytest.raises(VqError, match=r"other was not written by .*lack a valid `prompts`"):
        settings_of(open_stats(tmp_path / "other"))
