"""Where a LoRA may lie, and what is said of one that is another model's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import save, save_file

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest, parse_lora
from vq_core.model.source import open_source
from vq_core.testing.tiny_models import INNER_DIM, Variant

TO_Q = "blocks.1.attn1.to_q.weight"
STEM = "transformer.blocks.1.attn1.to_q"


def pair(width: int) -> dict[str, torch.Tensor]:
    """A of ones and B of eighths, rank 4: B·A is 1/2 everywhere."""
    return {f"{STEM}.lora_A.weight": torch.ones(4, width), f"{STEM}.lora_B.weight": torch.full((width, 4), 1 / 8)}


@pytest.mark.parametrize("at", ["memory://loras", "memory://loras/adapter_model.safetensors"])
def test_a_lora_in_a_bucket_with_what_peft_keeps_beside_it(
    tiny_model: Callable[[Variant], Path], memory: MemoryFileSystem, at: str
) -> None:
    memory.pipe({"/loras/adapter_model.safetensors": save(pair(INNER_DIM))})
    memory.pipe({"/loras/adapter_config.json": b'{"lora_alpha": 2}'})
    model = tiny_model("t2v")
    checkpoint = open_source(str(model), [parse_lora(f"{at}:0.5")]).components["transformer"]
    plain = open_source(str(model)).components["transformer"]
    (before,), (after,) = plain.plain([TO_Q]).values(), checkpoint.plain([TO_Q]).values()
    expected = before.double() + 0.5 * (2 / 4) * 0.5
    assert torch.equal(after, expected.to(after.dtype))


def test_of_two_loras_the_one_that_does_not_fit_is_named_with_the_model(
    tiny_model: Callable[[Variant], Path], tmp_path: Path
) -> None:
    save_file(pair(INNER_DIM), tmp_path / "ours.safetensors")
    save_file(pair(2 * INNER_DIM), tmp_path / "other.safetensors")
    model, names = str(tiny_model("t2v")), ("ours.safetensors", "other.safetensors")
    loras = [LoraRequest(tmp_path / name) for name in names]
    open_source(model, loras[:1])
    with pytest.raises(VqError) as refused:
        open_source(model, loras)
    width = 2 * INNER_DIM
    assert str(refused.value) == (
        f"{tmp_path}/other.safetensors does not fit {model}: its `{STEM}.lora_A.weight` is [4, {width}] and "
        f"`{TO_Q}` is [{INNER_DIM}, {INNER_DIM}], so give a LoRA of this model."
    )
