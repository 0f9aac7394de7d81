"""What this machine can run: schemes, kernels and attentions are asked or tried, models are held against memory."""

import importlib.util
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from vq_core.errors import VqError
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import quantize_tokens, quantize_weight
from vq_core.numerics.scheme import NumberFormat
from vq_core.runtime.device import resolve_device, runtime_dtype
from vq_infer.attention import availability
from vq_infer.fused.ops import has_kernels
from vq_infer.kernels import ProductKernel, cpu, cuda_fp8, cuda_int8, select_kernel
from vq_infer.memory.free import free_bytes, host_free_bytes
from vq_infer.memory.needs import GIB
from vq_infer.memory.plan import plan_memory
from vq_infer.memory.wan_sizes import wan_sizes
from vq_infer.options import OffloadName

PACKAGES = ("torch", "triton", "diffusers", "transformers", "vq-infer")
SCHEMES = {"int8": NumberFormat.INT8, "fp8": NumberFormat.FP8_E4M3}
TRITON_INT8 = "Triton INT8 product (CUDA)"
"""Its module's name of it, which cannot be imported where Triton is not installed; a test holds them together."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")
TOLERANCE = 0.01  # of a kernel's product against the reference; it is stored in bfloat16

Reasons = dict[str, str | None]
"""By name why it cannot run here, or None where it can."""


@dataclass(frozen=True)
class Examination:
    """What was found on one device.

    Attributes:
        device: as torch calls it.
        name: of the GPU, or of the processor.
        capability: the GPU's CUDA compute capability.
        versions: of packages, CUDA, the GPU's driver and Python; None for what is not installed.
        memory: bytes on the device, of the host, and free of both.
        schemes: by name.
        kernels: by name; each has multiplied a small matrix, and the product was right.
        attentions: by name.
        models: how each Wan fits, in a line.
    """

    device: str
    name: str
    capability: tuple[int, int] | None
    versions: dict[str, str | None]
    memory: dict[str, int]
    schemes: Reasons
    kernels: Reasons
    attentions: Reasons
    models: dict[str, str]

    def rows(self) -> dict[str, str]:
        """The lines of the table."""
        capability = "" if self.capability is None else f", compute capability {'.'.join(map(str, self.capability))}"
        rows = {"device": f"{self.device}: {self.name}{capability}"}
        rows["versions"] = ", ".join(f"{name} {said or 'not installed'}" for name, said in self.versions.items())
        rows["memory"] = ", ".join(f"{what} {size / GIB:.1f} GiB" for what, size in self.memory.items())
        for kind, reasons in (("scheme", self.schemes), ("kernel", self.kernels), ("attention", self.attentions)):
            rows |= {f"{kind} {name}": "runs" if why is None else f"no: {why}" for name, why in reasons.items()}
        return rows | self.models

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return asdict(self)


def examine(device: str | None) -> Examination:
    """Look at `device`; the GPU where there is one unless given.

    Raises:
        VqError: the device is not in this machine.
    """
    chosen = torch.device(resolve_device(device))
    gpu = chosen.type == "cuda"
    memory = {"device free": free_bytes(chosen)} if gpu else {}
    if gpu:
        memory["device"] = torch.cuda.get_device_properties(chosen).total_memory
    return Examination(
        device=str(chosen),
        name=torch.cuda.get_device_name(chosen) if gpu else platform.processor() or platform.machine(),
        capability=torch.cuda.get_device_capability(chosen) if gpu else None,
        versions=_versions(),
        memory=memory | {"host free": host_free_bytes()},
        schemes={name: _reason(partial(_select, chosen, fmt)) for name, fmt in SCHEMES.items()},
        kernels=_kernels(chosen),
        attentions=availability(chosen),
        models=_models(chosen),
    )


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version(), "CUDA": torch.version.cuda}
    found["driver"] = driver_version()
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _select(device: torch.device, fmt: NumberFormat) -> None:
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    select_kernel(device.type, capability, fmt)


def _kernels(device: torch.device) -> Reasons:
    reasons: Reasons = {}
    tried: tuple[tuple[ProductKernel, str, NumberFormat], ...] = (
        (cuda_fp8, "cuda", NumberFormat.FP8_E4M3),
        (cuda_int8, "cuda", NumberFormat.INT8),
        (cpu, "cpu", NumberFormat.INT8),
    )
    for kernel, kind, fmt in tried:
        if kind == "cuda" and device.type != "cuda":
            reasons[kernel.NAME] = "there is no CUDA device"
        else:
            place = device if kind == "cuda" else torch.device("cpu")
            reasons[kernel.NAME] = _reason(partial(try_kernel, kernel, place, fmt))
    reasons[TRITON_INT8] = _triton_int8(device)
    return reasons


def _triton_int8(device: torch.device) -> str | None:
    """Why INT8 on `device` is multiplied by the slower kernel."""
    if device.type != "cuda":
        return "there is no CUDA device"
    if importlib.util.find_spec("triton") is None:
        return f"Triton is not installed, {cuda_int8.NAME} is used"
    from vq_infer.kernels import triton_int8

    reason = triton_int8.disagreement(device)
    return None if reason is None else f"{reason.splitlines()[0].rstrip('.')}, {cuda_int8.NAME} is used"


def driver_version(file: Path = DRIVER_FILE) -> str | None:
    """Version of the NVIDIA driver, which the kernel module states on Linux; None where there is none."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s", file.read_text())
    except OSError:
        return None
    return found[1] if found else None


def try_kernel(kernel: ProductKernel, device: torch.device, fmt: NumberFormat) -> None:
    """Multiply a small matrix.

    Raises:
        VqError: the product is not the reference's.
        RuntimeError: the kernel does not run here.
    """
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, 128, generator=generator).to(device) for rows in (256, 64))
    weight = quantize_weight(w, fmt)
    product = kernel.multiply(quantize_tokens(x, fmt), weight, None, torch.float32)
    reference = w8a8_linear(x, weight, None, fmt)
    error = float((product - reference).norm() / reference.norm())
    if not error < TOLERANCE:
        raise VqError(f"its product is off by {error:.1%}")


def _reason(attempt: Callable[[], None]) -> str | None:
    """Why `attempt` fails, in a line."""
    try:
        attempt()
    except (VqError, RuntimeError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].rstrip(".")
    return None


def _models(device: torch.device) -> dict[str, str]:
    """How each Wan would fit into what is free, with 8-bit weights, at its usual size."""
    free = free_bytes(device)
    offload: OffloadName = "auto" if device.type == "cuda" else "none"
    lines = {}
    sizes = wan_sizes(runtime_dtype(device).itemsize, fused=has_kernels(device))
    for name, (memory, sampling) in sizes.items():
        plan = plan_memory(memory.needs(sampling), free, offload, None, alone=True)
        size = f"{sampling.width}x{sampling.height}, {sampling.num_frames} frames"
        lines[f"{name}, {size}"] = "does not fit" if plan is None else plan.describe()
    return lines
