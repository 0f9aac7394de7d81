"""What this machine can run: which schemes, kernels and attentions, and which models fit its memory."""

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
from vq_core.numerics.scheme import SCHEMES, NumberFormat
from vq_core.runtime.device import resolve_device, runtime_dtype
from vq_infer.attention import availability
from vq_infer.engine.transformer import kernel_for
from vq_infer.fused.ops import has_kernels
from vq_infer.kernels import ProductKernel, cpu, cuda_fp8, cuda_int8
from vq_infer.memory.needs import GIB
from vq_infer.memory.plan import free_bytes, host_free_bytes, plan_memory
from vq_infer.memory.wan_sizes import wan_sizes
from vq_infer.options import OffloadName

PACKAGES = ("torch", "triton", "diffusers", "transformers", "vq-infer")
TRITON_INT8 = "Triton INT8 product (CUDA)"
"""`NAME` in its module, which cannot be imported without Triton; a test compares them."""
NO_CUDA = "there is no CUDA device"
DRIVER_FILE = Path("/proc/driver/nvidia/version")
TOLERANCE = 0.01  # relative error of a kernel's product, which is stored in bfloat16

Reasons = dict[str, str | None]
"""For each name why it cannot run here, or None if it can."""


@dataclass(frozen=True)
class Examination:
    """What was found on one device.

    Attributes:
        device: torch's name of it.
        name: of the GPU, or of the processor.
        capability: the GPU's CUDA compute capability.
        versions: of packages, CUDA, the GPU's driver and Python; None for what is not installed.
        memory: bytes on the device, and free on the device and the host.
        schemes: why each cannot run.
        kernels: why each cannot run; one that can has multiplied a small matrix correctly.
        attentions: why each cannot run.
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
    """Examine `device`; None is the GPU if there is one.

    Raises:
        VqError: the device is not in this machine.
    """
    chosen = torch.device(resolve_device(device))
    gpu = torch.cuda.get_device_properties(chosen) if chosen.type == "cuda" else None
    memory = {} if gpu is None else {"device free": free_bytes(chosen), "device": gpu.total_memory}
    return Examination(
        device=str(chosen),
        name=platform.processor() or platform.machine() if gpu is None else gpu.name,
        capability=None if gpu is None else (gpu.major, gpu.minor),
        versions=_versions(),
        memory=memory | {"host free": host_free_bytes()},
        schemes={name: _reason(partial(kernel_for, chosen, scheme.weight)) for name, scheme in SCHEMES.items()},
        kernels=_kernels(chosen),
        attentions=availability(chosen),
        models=_models(chosen),
    )


def _versions() -> dict[str, str | None]:
    found = {"python": platform.python_version(), "CUDA": torch.version.cuda, "driver": driver_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _kernels(device: torch.device) -> Reasons:
    on_cuda: tuple[tuple[ProductKernel, NumberFormat], ...] = (
        (cuda_fp8, NumberFormat.FP8_E4M3),
        (cuda_int8, NumberFormat.INT8),
    )
    reasons: Reasons = {}
    for kernel, fmt in on_cuda:
        attempt = partial(try_kernel, kernel, device, fmt)
        reasons[kernel.NAME] = _reason(attempt) if device.type == "cuda" else NO_CUDA
    reasons[cpu.NAME] = _reason(partial(try_kernel, cpu, torch.device("cpu"), NumberFormat.INT8))
    reasons[TRITON_INT8] = _triton_int8(device)
    return reasons


def _triton_int8(device: torch.device) -> str | None:
    """Why INT8 on `device` is multiplied by the slower kernel."""
    if device.type != "cuda":
        return NO_CUDA
    if importlib.util.find_spec("triton") is None:
        return f"Triton is not installed, {cuda_int8.NAME} is used"
    from vq_infer.kernels import triton_int8

    reason = triton_int8.disagreement(device)
    return None if reason is None else f"{reason.splitlines()[0].rstrip('.')}, {cuda_int8.NAME} is used"


def driver_version(file: Path = DRIVER_FILE) -> str | None:
    """Version of the NVIDIA driver, which its kernel module states on Linux; None without a driver."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.\d[\d.]*)\s", file.read_text())
    except OSError:
        return None
    return found[1] if found else None


def try_kernel(kernel: ProductKernel, device: torch.device, fmt: NumberFormat) -> None:
    """Multiply a small matrix.

    Raises:
        VqError: the product differs from the reference's.
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


def _reason(attempt: Callable[[], object]) -> str | None:
    """Why `attempt` fails, in a line."""
    try:
        attempt()
    except (VqError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return lines[0].rstrip(".")
    return None


def _models(device: torch.device) -> dict[str, str]:
    """How each Wan would fit into free memory, with 8-bit weights, at its usual size."""
    free = free_bytes(device)
    offload: OffloadName = "auto" if device.type == "cuda" else "none"
    lines = {}
    sizes = wan_sizes(runtime_dtype(device).itemsize, fused=has_kernels(device))
    for name, (memory, sampling) in sizes.items():
        plan = plan_memory(memory.needs(sampling), free, offload, None, alone=True)
        size = f"{sampling.width}x{sampling.height}, {sampling.num_frames} frames"
        lines[f"{name}, {size}"] = "does not fit" if plan is None else plan.describe()
    return lines
