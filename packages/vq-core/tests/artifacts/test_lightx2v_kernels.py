"""What LightX2V needs installed for a run config, and what it makes do with."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.lightx2v_kernels import backend_of, probe, problem_and_warning

OLD = "W-int8-channel-sym-A-int8-channel-sym-dynamic-"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`install("vllm._custom_ops", "text")`: only what is installed can be imported of the packages of kernels."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("vllm", "sgl_kernel", "sglang", "torchao", "q8_kernels"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    for package in ("vllm", "sgl_kernel", "sglang", "torchao", "q8_kernels"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()

    def put(module: str, text: str = "") -> None:
        folder = tmp_path.joinpath(*module.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(text)

    yield put
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("vllm", "sgl_kernel", "sglang", "torchao", "q8_kernels"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("run_config", "backend"),
    [
        ({"dit_quant_scheme": "fp8-sgl"}, ("fp8-sgl", False)),
        ({"mm_config": {"mm_type": f"{OLD}Vllm"}}, ("int8-vllm", True)),
        ({"mm_config": {"mm_type": f"{OLD}Sgl-ActVllm"}}, ("int8-sgl", True)),
    ],
)
def test_the_backend_is_told_in_both_spellings(run_config: dict[str, Any], backend: tuple[str, bool]) -> None:
    assert backend_of(run_config) == backend


@pytest.mark.parametrize(
    ("backend", "installed", "problem", "warning"),
    [
        ("int8-vllm", {}, "No module named 'vllm._custom_ops'", None),
        ("int8-vllm", {"vllm._custom_ops": ""}, None, None),
        ("int8-vllm", {"vllm._custom_ops": "raise OSError('libcudart.so.13')"}, "OSError: libcudart.so.13", None),
        ("fp8-torchao", {}, None, None),
        (
            "int8-torchao",
            {"torchao.quantization.utils": ""},
            "no quant_int8_per_token_matmul): pip install torchao",
            None,
        ),
        ("int8-torchao", {"torchao.quantization.utils": "_quant_int8_per_token_matmul = 0"}, None, None),
        ("int8-sgl", {"sgl_kernel": "int8_scaled_mm = 0"}, None, "int8-sgl has no exact quantizer"),
        ("int8-sgl", {"sgl_kernel": "int8_scaled_mm = 0", "vllm._custom_ops": ""}, None, None),
        ("fp8-sgl", {"sgl_kernel": "fp8_scaled_mm = 0"}, None, None),
        ("int8-q8f", {"q8_kernels.functional.linear": "q8_linear = 0"}, None, "int8-q8f has no exact quantizer"),
        ("fp8-q8f", {"q8_kernels.functional.linear": "fp8_linear = 0"}, None, None),
        ("int8-triton", {}, None, "int8-triton has no exact quantizer"),
        ("int8-npu", {}, None, None),
    ],
)
def test_what_is_missing_and_what_truncates(
    install: Any, backend: str, installed: dict[str, str], problem: str | None, warning: str | None
) -> None:
    for module, text in installed.items():
        install(module, text)
    found = problem_and_warning({"dit_quant_scheme": backend})
    for said, expected in zip(found, (problem, warning), strict=True):
        assert (said is None) is (expected is None), said
        assert expected is None or expected in str(said)


def test_an_old_release_needs_the_quantizer_of_vllm(install: Any) -> None:
    install("sgl_kernel", "int8_scaled_mm = 0")
    problem, warning = problem_and_warning({"mm_config": {"mm_type": f"{OLD}Sgl-ActVllm"}})
    assert "int8-sgl of this LightX2V needs vllm's quantizer too" in str(problem)
    assert warning is None


def test_the_program_runs_alone_and_says_it_in_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"dit_quant_scheme": "int8-q8f"}')
    command = [sys.executable, "-I", "-", str(tmp_path / "run.json")]
    ran = subprocess.run(command, input=probe(), capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("the kernels of int8-q8f cannot be imported (ModuleNotFoundError")
