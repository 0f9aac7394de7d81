"""What is found on this machine, and how a kernel that is wrong is told."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import NumberFormat
from vq_infer import doctor
from vq_infer.doctor import driver_version, examine, try_kernel
from vq_infer.kernels import cpu

CPU = torch.device("cpu")


def test_the_cpu_runs_all_schemes() -> None:
    found = examine("cpu")
    assert found.schemes == dict.fromkeys(("int8", "fp8", "w6a8", "w4a8"))
    assert found.kernels[cpu.NAME] is None
    assert [why for name, why in found.kernels.items() if name != cpu.NAME] == ["there is no CUDA device"] * 3
    assert found.attentions["sdpa"] is None
    assert "needs a CUDA device" in str(found.attentions["cudnn"])
    assert found.versions["torch"] == torch.__version__.split("+")[0]
    rows = found.rows()
    assert rows["attention sdpa"] == "runs"
    assert rows["attention cudnn"].startswith("no: ")
    assert any(name.startswith("Wan2.1 14B") for name in rows)
    assert json.loads(json.dumps(found.to_json()))["schemes"] == found.schemes


def test_what_fits_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda _: 12 * 2**30)
    models = {name.split(",")[0]: line for name, line in doctor._models(torch.device("cuda", 0)).items()}
    assert models["Wan2.1 1.3B"].startswith("transformers and VAE in turns, every block on the device")
    assert "blocks on the host" in models["Wan2.1 14B"]
    assert "the VAE in tiles" in models["Wan2.1 14B wide"]
    monkeypatch.setattr(doctor, "free_bytes", lambda _: 8 * 2**30)  # less than the text encoder takes
    assert set(doctor._models(torch.device("cuda", 0)).values()) == {"does not fit"}


@pytest.mark.parametrize("fmt", list(NumberFormat))
def test_a_right_kernel_passes_and_a_wrong_one_does_not(fmt: NumberFormat) -> None:
    try_kernel(cpu, CPU, fmt)

    def multiply(x: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        return cpu.multiply(x, weight, bias, dtype) * 1.02

    wrong = SimpleNamespace(NAME="wrong", MULTIPLE=1, multiply=multiply)
    with pytest.raises(VqError, match=r"its product is off by 2\.0%"):
        try_kernel(wrong, CPU, fmt)


def test_the_int8_kernel_of_triton_is_named_with_what_runs_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    triton_int8 = pytest.importorskip("vq_infer.kernels.triton_int8")
    assert triton_int8.NAME == doctor.TRITON_INT8
    cuda = torch.device("cuda")
    monkeypatch.setattr(triton_int8, "disagreement", lambda device: None)
    assert doctor._triton_int8(cuda) is None
    monkeypatch.setattr(triton_int8, "disagreement", lambda device: "PTXASError: too old.\nand more")
    assert doctor._triton_int8(cuda) == "PTXASError: too old, torch._int_mm INT8 (CUDA) is used"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor._triton_int8(cuda) == "Triton is not installed, torch._int_mm INT8 (CUDA) is used"


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\n", "580.82.07"),
        ("something else\n", None),
        (None, None),
    ],
)
def test_the_driver_is_what_the_kernel_module_says(text: str | None, driver: str | None, tmp_path: Path) -> None:
    file = tmp_path / "version"
    if text is not None:
        file.write_text(text)
    assert driver_version(file) == driver


@pytest.mark.gpu
def test_the_gpu_runs_int8() -> None:
    found = examine("cuda")
    assert found.schemes["int8"] is None
    assert found.memory["device free"] <= found.memory["device"]
