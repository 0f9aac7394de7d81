"""Can LightX2V's kernels be imported? A program for the Python that LightX2V runs in, which needs nothing else.

`python lightx2v_kernels.py RUN_CONFIG.json` ends with 2 and one sentence where the kernels that the run config names
are missing: LightX2V itself would load the model, and then fail at the first linear. It warns where the kernels are
there and LightX2V would quantize their inputs with its Triton kernel, which truncates.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

VLLM_OPS = ("vllm._custom_ops", "")
TORCHAO_INT8 = (
    ("torchao.quantization.utils", "quant_int8_per_token_matmul"),
    ("torchao.quantization.utils", "_quant_int8_per_token_matmul"),
)
# What a backend multiplies with, any of these; and how to get it. FP8 of torchao is a product of torch's own.
KERNELS = {
    "int8-vllm": ((VLLM_OPS,), "pip install vllm"),
    "fp8-vllm": ((VLLM_OPS,), "pip install vllm"),
    "int8-sgl": ((("sgl_kernel", "int8_scaled_mm"),), "pip install sglang-kernel (formerly sgl-kernel)"),
    "fp8-sgl": ((("sgl_kernel", "fp8_scaled_mm"),), "pip install sglang-kernel (formerly sgl-kernel)"),
    "int8-torchao": (TORCHAO_INT8, "pip install torchao"),
    "int8-q8f": ((("q8_kernels.functional.linear", "q8_linear"),), "build and install ModelTC/q8_kernels from GitHub"),
    "fp8-q8f": ((("q8_kernels.functional.linear", "fp8_linear"),), "build and install ModelTC/q8_kernels from GitHub"),
}
# What quantizes a backend's inputs, where it has no quantizer of its own. Without any, LightX2V takes Triton's.
QUANTIZERS: dict[str, tuple[tuple[str, str], ...]] = {
    "int8-sgl": (("sglang.srt.layers.quantization.int8_kernel", "per_token_quant_int8"), VLLM_OPS, *TORCHAO_INT8),
    "int8-q8f": (VLLM_OPS,),
    "int8-triton": (),
}
# Old releases know only one quantizer for these.
OLD_QUANTIZERS = {"int8-sgl": (VLLM_OPS,), "int8-q8f": (VLLM_OPS,), "fp8-q8f": (VLLM_OPS,)}
TRUNCATES = "which truncates where the others round to nearest (about 3 dB of the video's PSNR)"


def backend_of(run_config: dict[str, Any]) -> tuple[str, bool]:
    """Name of the kernels that a run config asks for, such as `int8-vllm`; and is it one for old releases?"""
    if "mm_config" not in run_config:
        return str(run_config.get("dit_quant_scheme")), False
    words = run_config["mm_config"]["mm_type"].lower().split("-")  # W-int8-channel-sym-A-int8-channel-sym-dynamic-Vllm
    return f"{words[1]}-{words[9]}", True


def failure(choices: tuple[tuple[str, str], ...]) -> str | None:
    """Why none of the `choices`, pairs of module and attribute, can be imported; None if one can."""
    first = None
    for module, attribute in choices:
        try:
            found = importlib.import_module(module)
            if not attribute or hasattr(found, attribute):
                return None
            error = f"{module} has no {attribute}"
        except Exception as raised:  # noqa: BLE001 - a broken installation raises anything
            error = f"{type(raised).__name__}: {raised}".splitlines()[0]
        first = first or error
    return first


def problem_and_warning(run_config: dict[str, Any]) -> tuple[str | None, str | None]:
    """What is missing for `run_config`, and what is worse than it could be; None where there is nothing to say."""
    backend, old = backend_of(run_config)
    if backend in KERNELS:
        choices, advice = KERNELS[backend]
        if why := failure(choices):
            return f"the kernels of {backend} cannot be imported ({why}): {advice}, or choose other kernels.", None
    if old and backend in OLD_QUANTIZERS:
        if why := failure(OLD_QUANTIZERS[backend]):
            return f"{backend} of this LightX2V needs vllm's quantizer too ({why}): pip install vllm.", None
    elif backend in QUANTIZERS and (not QUANTIZERS[backend] or failure(QUANTIZERS[backend])):
        return None, (
            f"{backend} has no exact quantizer of its inputs here, so that LightX2V takes Triton's, {TRUNCATES}: "
            "pip install vllm, or choose other kernels."
        )
    return None, None


def probe() -> str:
    """This program as text."""
    return Path(__file__).read_text(encoding="utf-8").rstrip()


def main() -> None:
    """Print what is wrong as the last line of stderr, and end with 2 if nothing can be made with it."""
    problem, warning = problem_and_warning(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
