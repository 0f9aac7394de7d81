"""The one warning that passes in tests; all others are errors."""

import warnings

import pytest

SCRIPT_METHOD = "`torch.jit.script_method` is deprecated. Please switch to `torch.compile` or `torch.export`."


def warn(text: str, category: type[Warning], module: str) -> None:
    warnings.warn_explicit(text, category, "file.py", 1, module)


def test_torch_may_use_what_it_deprecates() -> None:
    warn(SCRIPT_METHOD, DeprecationWarning, "torch.jit._script")


@pytest.mark.parametrize(
    ("text", "category", "module"),
    [
        (SCRIPT_METHOD, DeprecationWarning, "vq_infer.engine"),
        (SCRIPT_METHOD, DeprecationWarning, "torch.jit._script_pyi"),
        (SCRIPT_METHOD, UserWarning, "torch.jit._script"),
        ("`torch.jit.script` is deprecated.", DeprecationWarning, "torch.jit._script"),
    ],
)
def test_the_same_from_elsewhere_and_others_from_there_are_errors(
    text: str, category: type[Warning], module: str
) -> None:
    with pytest.raises(category, match="is deprecated"):
        warn(text, category, module)
