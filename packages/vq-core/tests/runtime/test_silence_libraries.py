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


def test_warnings_of_loading_stay() -> None:
    with silenced_libraries():
        assert logging.getLogger("transformers.modeling_utils").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("transformers.utils.import_utils").isEnabledFor(logging.WARNING)
        assert not logging.getLogger("diffusers.configuration_utils").isEnabledFor(logging.WARNING)
    assert logging.getLogger("diffusers.configuration_utils").isEnabledFor(logging.WARNING)
