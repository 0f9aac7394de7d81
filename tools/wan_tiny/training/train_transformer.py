"""Train wan-tiny's transformer together with its text and image encoder: flow matching on latents."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wan_tiny.training import parts
from wan_tiny.training.dataset import Dataset, tokenize
from wan_tiny.training.denoiser import Denoiser
from wan_tiny.training.train_vae import learning_rate, precision, update_average

PEAK_RATE = 1.2e-3
WARMUP_STEPS = 300
WEIGHT_DECAY = 0.01
EMA = 0.999
CAPTION_DROP = 0.1


@dataclass(frozen=True)
class Schedule:
    """How long and how wide."""

    steps: int = 7800
    batch: int = 256


def train_transformer(
    data: Dataset,
    tokenizer: Any,
    seed: int,
    device: str,
    log: Callable[[str, int, float], None],
    schedule: Schedule,
    *,
    compiled: bool,
) -> Denoiser:
    """A trained denoiser on `device`, the average over the last steps."""
    torch.manual_seed(seed)
    model = Denoiser().to(device)
    average = copy.deepcopy(model).requires_grad_(False).eval()
    if compiled:
        for block in model.transformer.blocks:
            block.compile()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    plain = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=PEAK_RATE, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    nothing = tokenize(tokenizer, [""], device)
    running = torch.zeros((), device=device)
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule.steps, PEAK_RATE, WARMUP_STEPS)
        loss = _loss(model, data, nothing, schedule.batch, device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        update_average(average, model, min(EMA, step / (step + 10)))
        running += loss.detach()
        if (step + 1) % 100 == 0:
            log("transformer_loss", step + 1, float(running) / 100)
            running.zero_()
    return average


def shifted(uniform: Tensor) -> Tensor:
    """Noise levels as the sampler spaces them: s = shift·u / (1 + (shift − 1)·u)."""
    return parts.FLOW_SHIFT * uniform / (1 + (parts.FLOW_SHIFT - 1) * uniform)


def _loss(model: Denoiser, data: Dataset, nothing: Tensor, batch: int, device: str) -> Tensor:
    """Mean squared error of the flow: x = (1 − s)·x0 + s·noise, flow = noise − x0."""
    pick = torch.randint(len(data.tokens), (batch,), device=device)
    clean = data.latents[pick].float()
    noise = torch.randn_like(clean)
    sigma = shifted(torch.rand(batch, device=device))
    level = sigma[:, None, None, None, None]
    dropped = torch.rand(batch, 1, device=device) < CAPTION_DROP
    tokens = torch.where(dropped, nothing, data.tokens[pick])
    with precision(device):
        text, image = model.encode_text(tokens), model.encode_image(data.images[pick])
        flow = model((1 - level) * clean + level * noise, data.conditions[pick].float(), sigma, text, image)
    return (flow.float() - (noise - clean)).square().mean()
