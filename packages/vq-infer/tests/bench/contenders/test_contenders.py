"""What every contender provides."""

from collections.abc import Callable

import pytest
import torch

from vq_core.discover import plugin_names
from vq_infer.bench.models.contenders import REFERENCE, Contender
from vq_infer.bench.worker import CONTENDERS


@pytest.mark.parametrize("name", plugin_names(CONTENDERS))
def test_contract(name: str, contender: Callable[[str], Contender]) -> None:
    module = contender(name)
    assert module.LINEARS in ("plain", "int8", "fp8")
    assert module.ATTENTION in ("plain", "8-bit")
    assert module.LOADED_BYTES in (1, 2)
    reason = module.missing(torch.device("cpu"))
    assert reason is None or not reason.endswith(".")


def test_titles_differ(contender: Callable[[str], Contender]) -> None:
    names = plugin_names(CONTENDERS)
    assert REFERENCE in names
    assert len({contender(name).TITLE for name in names}) == len(names)
