"""The parts of wan-tiny: diffusers' and transformers' own classes, small, before they are trained."""

from typing import Any

import torch
from torch import nn

from vq_wan_tiny.captions import WORDS
from vq_wan_tiny.world import SIDE

LATENT_CHANNELS = 16
HEADS, HEAD_DIM, BLOCKS, FFN_DIM = 4, 64, 5, 640
TEXT_DIM, IMAGE_DIM, IMAGE_PATCH = 96, 64, 16
FLOW_SHIFT = 3.0
SILU_GAIN = 1.68  # 1 / rms of silu(x) for standard normal x


def build_vae() -> Any:
    """Wan2.1's causal VAE, initialised so that it carries its input through from the first step.

    PyTorch's own initialisation loses 1/√3 of the signal per convolution and sets the latent's noise to 1, in which
    the mean drowns for thousands of steps. Here every convolution keeps the variance of what it reads, causal kernels
    look mostly at the current frame, and the latent's noise starts small.
    """
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=16, dim_mult=[1, 2, 3, 3], num_res_blocks=1, z_dim=LATENT_CHANNELS,
        temperal_downsample=[False, True, True],
    )  # fmt: skip
    with torch.no_grad():
        for name, layer in vae.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                _keep_variance(layer, _gain(name))
        for pointwise in (vae.quant_conv, vae.post_quant_conv):
            pointwise.weight.copy_(torch.eye(len(pointwise.weight)).view_as(pointwise.weight))
        for resample in vae.modules():
            if hasattr(resample, "time_conv"):
                _keep_current_frame(resample.time_conv)
        vae.encoder.conv_out.weight[LATENT_CHANNELS:] = 0
        vae.encoder.conv_out.bias[LATENT_CHANNELS:] = -6  # log-variance
    return vae


def _gain(name: str) -> float:
    if "resnets" in name or name.endswith((".conv1", ".conv2")):
        return SILU_GAIN if name.endswith("conv1") else 0.3 * SILU_GAIN if name.endswith("conv2") else 1.0
    return {"decoder.conv_out": 0.3, "encoder.conv_out": SILU_GAIN}.get(name, 1.0)


def _keep_variance(layer: "nn.Conv2d | nn.Conv3d", gain: float) -> None:
    weight = layer.weight
    current = weight[:, :, -1] if weight.ndim == 5 else weight
    spread = gain / (current[0].numel() ** 0.5)
    if weight.ndim == 5:
        weight.normal_(std=0.1 * spread)
    current.normal_(std=spread)
    if layer.bias is not None:
        layer.bias.zero_()


def _keep_current_frame(time_conv: nn.Conv3d) -> None:
    """Pass the current frame on, as it is (downsampling) or twice (upsampling), with a little of the others."""
    channels = time_conv.in_channels
    time_conv.weight.normal_(std=0.1 / channels**0.5)
    for half in time_conv.weight.split(channels):
        half[:, :, -1, 0, 0] += torch.eye(channels)


def build_transformer() -> Any:
    """Wan2.1's image-to-video transformer."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=LATENT_CHANNELS + 4 + LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=FFN_DIM,
        num_layers=BLOCKS,
        image_dim=IMAGE_DIM,
        added_kv_proj_dim=HEADS * HEAD_DIM,
        rope_max_seq_len=64,
    )


def build_text_encoder() -> Any:
    """UMT5, for the words of the captions."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=len(build_tokenizer()), d_model=TEXT_DIM, d_kv=24, d_ff=192, num_layers=2, num_heads=4,
        dropout_rate=0.0,
    )  # fmt: skip
    return UMT5EncoderModel(config)


def build_tokenizer() -> Any:
    """The words of the captions as vocabulary, closed by `</s>`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def build_image_encoder() -> Any:
    """CLIP's vision tower; the pipeline reads the output of its last layer but one."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=IMAGE_DIM, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        image_size=SIDE, patch_size=IMAGE_PATCH,
    )  # fmt: skip
    return CLIPVisionModel(config)


def build_image_processor() -> Any:
    """CLIP's preprocessing of an image."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def build_scheduler() -> Any:
    """UniPC on the flow, as Wan2.1 ships it."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT)
