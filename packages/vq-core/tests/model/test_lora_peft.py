"""What diffusers and PEFT make of a LoRA file is what we make of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import open_source
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.testing.tiny_models import Variant


@pytest.mark.parametrize(("strength", "dora"), [(1.0, False), (0.6, False), (1.0, True)])
def test_fused_by_diffusers_is_merged_by_us(
    tiny_model: Callable[[Variant], Path], tmp_path: Path, strength: float, dora: bool
) -> None:
    model = tiny_model("t2v")
    with silenced_libraries():
        trained = WanPipeline.from_pretrained(model, dtype=torch.float32)
        modules = ["to_q", "to_v", "to_out.0", "net.0.proj", "net.2"]
        config = LoraConfig(r=4, lora_alpha=10, target_modules=modules, use_dora=dora)
        trained.transformer.add_adapter(config)
        torch.manual_seed(0)
        for name, parameter in trained.transformer.named_parameters():
            if "magnitude" in name:
                parameter.data *= 1 + 0.1 * torch.rand_like(parameter)
            elif "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        WanPipeline.save_lora_weights(
            tmp_path,
            transformer_lora_layers=get_peft_model_state_dict(trained.transformer),
            transformer_lora_adapter_metadata=trained.transformer.peft_config["default"].to_dict(),
        )
        fused = WanPipeline.from_pretrained(model, dtype=torch.float32)
        fused.load_lora_weights(tmp_path)
        fused.fuse_lora(lora_scale=strength)
        fused.unload_lora_weights()
    theirs: dict[str, Tensor] = fused.transformer.state_dict()

    (file,) = tmp_path.glob("*.safetensors")
    checkpoint = open_source(str(model), [LoraRequest(file, strength)]).components["transformer"]
    assert len(checkpoint.merged) == 3 * (2 * 3 + 2)
    (before,) = open_source(str(model)).components["transformer"].plain(["blocks.0.attn1.to_q.weight"]).values()
    assert not torch.equal(before.float(), theirs["blocks.0.attn1.to_q.weight"])
    for name, ours in checkpoint.plain(checkpoint.merged).items():
        # Theirs stay in float32, ours are rounded to the bfloat16 that the checkpoint is stored in.
        assert torch.allclose(ours.float(), theirs[name], rtol=2**-8, atol=1e-6), name
        assert (ours == theirs[name].to(ours.dtype)).float().mean() > 0.999, name
