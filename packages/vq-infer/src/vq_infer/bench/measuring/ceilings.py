"""The machine's peak rates, measured: matrix products in each format, and copying."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_core.numerics.quantize import quantize_tokens, quantize_weight
from vq_core.numerics.scheme import SCHEMES
from vq_core.runtime.device import runtime_dtype
from vq_infer.bench.measuring.measure import steady
from vq_infer.bench.models.engine import why_not
from vq_infer.bench.models.workload import Workload

SECONDS = 1.0
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}


@dataclass(frozen=True)
class Ceilings:
    """Measured under steady load.

    Attributes:
        matmul: operations (2·M·N·K) per second of the fastest of the model's large products, by format: `plain`
            (bfloat16; fp32 on the CPU), and on CUDA `int8` and `fp8` if the card has them.
        copy: bytes read and written per second.
    """

    matmul: dict[str, float]
    copy: float

    def rate(self, multiplies: str) -> float:
        """Operations per second in the format `multiplies`; the CPU multiplies codes as fp32."""
        return self.matmul.get(multiplies, self.matmul["plain"])


def measure_ceilings(workload: Workload, device: torch.device, seconds: float = SECONDS) -> Ceilings:
    """Measure them with the tokens and widths of `workload`, through torch's own products."""
    dim, ffn = workload.dim, int(workload.config["ffn_dim"])
    rates: dict[str, float] = {}
    for in_features, out_features in ((dim, dim), (dim, ffn)):
        for name, product in _products(workload.tokens, in_features, out_features, device).items():
            rate = 2 * workload.tokens * in_features * out_features / steady(product, device, seconds).median
            rates[name] = max(rate, rates.get(name, 0.0))
    count = COPY_BYTES[device.type] // 2
    source, target = (torch.zeros(count, dtype=torch.uint8, device=device) for _ in range(2))
    return Ceilings(rates, 2 * count / steady(lambda: target.copy_(source), device, seconds).median)


def _products(
    tokens: int, in_features: int, out_features: int, device: torch.device
) -> dict[str, Callable[[], Tensor]]:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(tokens, in_features, device=device, generator=generator).to(runtime_dtype(device))
    weight = torch.randn(out_features, in_features, device=device, generator=generator).to(x.dtype)
    products: dict[str, Callable[[], Tensor]] = {"plain": lambda: x @ weight.t()}
    if device.type != "cuda":
        return products
    if why_not(device, "int8") is None:
        scheme = SCHEMES["int8"]
        a, b = quantize_tokens(x, scheme.activation), quantize_weight(weight, scheme.weight)
        products["int8"] = lambda: torch._int_mm(a.codes, b.codes.t())
    if why_not(device, "fp8") is None:
        scheme = SCHEMES["fp8"]
        c, d = quantize_tokens(x, scheme.activation), quantize_weight(weight, scheme.weight)
        products["fp8"] = lambda: torch._scaled_mm(
            c.codes,
            d.codes.t(),
            scale_a=c.scale,
            scale_b=d.scale.t(),
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
    return products
