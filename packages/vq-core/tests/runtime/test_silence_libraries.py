import logging

import pytest
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from vq_core.runtime.silence_libraries import silenced_libraries


def test_silences_bars_and_gives_them_back() -> None:
    before = diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), silenced_libraries():
        assert not diffusers_logging.is_progress_bar_enabled()
        assert not transformers_logging.is_progress_bar_enabled()
        raise KeyError
    assert (diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()) == before


def test_bars_that_were_off_stay_off() -> None:
    diffusers_logging.disable_progress_bar()
    try:
        with silenced_libraries():
            pass
        assert not diffusers_logging.is_progress_bar_enabled()
    finally:
        diffusers_logging.enable_progress_bar()


@pytest.mark.parametrize(
    "name", ["transformers.modeling_utils", "transformers.utils.import_utils", "diffusers.configuration_utils"]
)
def test_remarks_about_files_are_hidden_and_errors_are_not(name: str) -> None:
    logger = logging.getLogger(name)
    with silenced_libraries():
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    assert logger.isEnabledFor(logging.WARNING)
