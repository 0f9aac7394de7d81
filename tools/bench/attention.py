"""Attention by every way of `vq-infer --attention` that runs here: its error against fp32, and its time.

Errors, ‖O − O₃₂‖ / ‖O₃₂‖, are on synthetic q, k, v from flat to peaked attention, hard to quantize (low rank, channels
four times as large, a constant in k), and, where vq-wan-tiny is installed, on those of its own self-attention. Beside
them stands what the best plain scheme has: INT8 q by token and k by 64 tokens less its mean, FP8 v by channel, no
rotation. Times are medians over seconds of continuous running: a card that is power-capped is faster in short bursts.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import availability, load_attention

Inputs = tuple[Tensor, Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

SPREADS = {"flat": 0.5, "middle": 2.0, "peaked": 5.0}
"""Standard deviation of the logits."""
V_MEANS = (0.0, 1.0)
"""Length of a constant in v in units of its spread: without one, flat attention has almost nothing to give."""
QUERIES = 512
RANK = 16


def synthetic(tokens: int, heads: int, dim: int, spread: float, v_mean: float, device: str) -> Inputs:
    """q, k and v `[1, tokens, heads, dim]` whose logits have about the standard deviation `spread`."""
    generator = torch.Generator(device).manual_seed(0)
    random = partial(torch.randn, generator=generator, device=device)

    def low_rank(mixing: Tensor) -> Tensor:
        return torch.einsum("thr,hrd->thd", random(tokens, heads, RANK), mixing) + random(tokens, heads, dim) / 2

    shared = random(heads, RANK, dim) / RANK**0.5
    q, k, v = low_rank(shared), low_rank(shared), low_rank(random(heads, RANK, dim) / RANK**0.5)
    loud = torch.randperm(dim, generator=generator, device=device)[: dim // 32]
    q[..., loud] *= 4
    k[..., loud] *= 4
    k += 2 * random(heads, dim)
    v += v_mean * random(heads, dim)
    logits = torch.einsum("qhd,khd->hqk", q[:QUERIES], k - k.mean(0)) * dim**-0.5
    scale = float(spread / logits.std()) ** 0.5
    return (q * scale)[None], (k * scale)[None], v[None]


@contextmanager
def _recorded(inputs: list[Inputs]) -> Iterator[None]:
    """Put q, k and v of every self-attention that diffusers' Wan computes into `inputs`."""
    from diffusers.models.transformers import transformer_wan

    dispatch = transformer_wan.dispatch_attention_fn

    def record(query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> Tensor:
        if query.shape == key.shape:
            inputs.append((query.clone(), key.clone(), value.clone()))
        return dispatch(query, key, value, **settings)

    transformer_wan.dispatch_attention_fn = record
    try:
        yield
    finally:
        transformer_wan.dispatch_attention_fn = dispatch


def tiny_models() -> list[Inputs]:
    """q, k and v of every self-attention of wan-tiny in two steps of one video, on the CPU."""
    from vq_core.sampling.model_defaults import defaults_of
    from vq_core.sampling.pipeline import VideoPipeline
    from vq_core.sampling.prompts import read_samples
    from vq_core.sampling.settings import Sampling
    from vq_wan_tiny.prompts import write_prompts

    said = defaults_of("wan-tiny")
    sampling = Sampling(2, said.height, said.width, said.num_frames, said.guidance_scale)
    pipeline = VideoPipeline("wan-tiny", "cpu")
    inputs: list[Inputs] = []
    with TemporaryDirectory() as folder, _recorded(inputs):
        write_prompts(Path(folder) / "prompts", 1, 0, held_out=True)
        sample = read_samples(Path(folder) / "prompts", pipeline.inputs)[0]
        conditions = pipeline.encode([sample], sampling)[0]
        pipeline.denoise(conditions, sampling, seed=0)
    return inputs


def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention in fp32, head by head: the logits of all would not fit."""
    heads = []
    for head in range(q.shape[2]):
        queries, keys, values = (x[:, :, head].float() for x in (q, k, v))
        heads.append(torch.softmax(queries @ keys.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1) @ values)
    return torch.stack(heads, dim=2)


def plain_8_bits(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """INT8 q by token and k by 64 tokens less its mean, FP8 v by channel and weights times 2⁸; the sums in fp32."""
    whole = k.shape[1] // 64 * 64
    centred = k.float() - k.float().mean(1, keepdim=True)
    blocks = _int8(centred[:, :whole].unflatten(1, (-1, 64)), (2, 4)).flatten(1, 2)
    k = torch.cat([blocks, _int8(centred[:, whole:], (1, 3))], 1) if whole < k.shape[1] else blocks
    q, v_scale = _int8(q.float(), (3,)), v.float().abs().amax(1, keepdim=True) / 448
    v = (v.float() / v_scale).to(torch.float8_e4m3fn).float() * v_scale
    heads = []
    for head in range(q.shape[2]):
        logits = q[:, :, head] @ k[:, :, head].transpose(1, 2) * q.shape[-1] ** -0.5
        weights = torch.exp(logits - logits.amax(-1, keepdim=True))
        rounded = (weights * 256).to(torch.float8_e4m3fn).float() / 256
        heads.append(rounded @ v[:, :, head] / weights.sum(-1, keepdim=True))
    return torch.stack(heads, dim=2)


def _int8(x: Tensor, over: tuple[int, ...]) -> Tensor:
    scale = x.abs().amax(over, keepdim=True).clamp(min=1e-20) / 127
    return (x / scale).round() * scale


def error(attend: Attend, cases: list[Inputs]) -> dict[str, float]:
    """Relative error and cosine against fp32 over all of `cases` together, on evenly spaced queries."""
    outs, references = [], []
    for q, k, v in cases:
        rows = torch.linspace(0, q.shape[1] - 1, min(QUERIES, q.shape[1]), device=q.device).long()
        outs.append(attend(q[:, rows].contiguous(), k, v).float().flatten().cpu())
        references.append(exact(q[:, rows], k, v).flatten().cpu())
    out, reference = torch.cat(outs).double(), torch.cat(references).double()
    return {
        "error": float((out - reference).norm() / reference.norm()),
        "cosine": float(torch.nn.functional.cosine_similarity(out, reference, dim=0)),
    }


def steady_ms(work: Callable[[], object], seconds: float) -> float:
    """Median milliseconds of `work` by CUDA events over `seconds` of running it, the first third left out."""
    times: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 3:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(11)]
        events[0].record()
        for event in events[1:]:
            work()
            event.record()
        torch.cuda.synchronize()
        times += [start.elapsed_time(end) for start, end in pairwise(events)]
    return median(times[len(times) // 3 :])


def _cast(inputs: Inputs, device: str, dtype: torch.dtype) -> Inputs:
    q, k, v = (x.to(device, dtype) for x in inputs)
    return q, k, v


def errors(attends: dict[str, Attend], device: str, tokens: int, heads: int) -> list[dict[str, object]]:
    """One row per kind of inputs and way of attention."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    cases = {
        f"{name}, mean of v {v_mean:g}": [_cast(synthetic(tokens, heads, 128, spread, v_mean, device), device, dtype)]
        for name, spread in SPREADS.items()
        for v_mean in V_MEANS
    }
    try:
        cases["wan-tiny"] = [_cast(inputs, device, dtype) for inputs in tiny_models()]
    except (ImportError, VqError) as problem:
        print(f"no q, k and v of a model: {problem}")
    return [
        {"inputs": case, "attention": name, **error(attend, inputs)}
        for case, inputs in cases.items()
        for name, attend in attends.items()
    ]


@torch.no_grad()
def main(
    output: Annotated[Path, typer.Argument(help="JSON to write.")],
    tokens: int = 32760,
    heads: int = 40,
    seconds: float = 6.0,
    error_tokens: int = 16384,
) -> None:
    """Measure what runs here and print one line each; times only where there is CUDA."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reasons = availability(torch.device(device))
    attends: dict[str, Attend] = {name: load_attention(name).attend for name, why in reasons.items() if why is None}
    report: dict[str, object] = {"torch": torch.__version__, "unavailable": {n: w for n, w in reasons.items() if w}}
    report["errors"] = rows = errors(attends | {"plain 8 bits": plain_8_bits}, device, error_tokens, 2)
    for row in rows:
        print(f"{row['inputs']:24} {row['attention']:14} error {row['error']:.4%}  cosine {row['cosine']:.6f}")
    if device == "cuda":
        q, k, v = (torch.randn(1, tokens, heads, 128, device=device, dtype=torch.bfloat16) for _ in range(3))
        times = {name: steady_ms(partial(attend, q, k, v), seconds) for name, attend in attends.items()}
        report |= {"device": torch.cuda.get_device_name(), "tokens": tokens, "heads": heads, "ms": times}
        for name, ms in times.items():
            print(f"{name:14} {ms:8.2f} ms  {4 * tokens**2 * 128 * heads / ms / 1e9:6.0f} TFLOP/s")
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
