"""Random but complete Wan pipelines of a few megabytes, assembled in code: every part real, every layout there is.

They are for tests and demos. Their blocks weigh as much in the output as those of a trained model and have its
outlier channels, so that quantization errors, and what smoothing does about them, show in the video.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vq_core.media.video import write_video
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.model_defaults import SAMPLING_FILE
from vq_core.sampling.prompts import SAMPLES_FILE

if TYPE_CHECKING:
    from PIL.Image import Image

Variant = Literal["t2v", "i2v", "flf2v", "vace", "t2v-2.2", "i2v-2.2", "ti2v-5b", "t2v-distilled"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

HEADS, HEAD_DIM = 4, 16
INNER_DIM = HEADS * HEAD_DIM  # the CUDA kernels need linears in multiples of 16
FFN_DIM = 192
BLOCKS = 3
TEXT_DIM = 32
IMAGE_DIM, IMAGE_SIDE, IMAGE_PATCH = 48, 32, 8
IMAGE_TOKENS = (IMAGE_SIDE // IMAGE_PATCH) ** 2 + 1  # CLIP's class token is one
VIDEO_FRAMES = 17
VACE_LAYERS = (0, 2)
OUTLIER_CHANNELS, OUTLIER_GAIN = 3, 12.0
DISTILLED_SHIFT, DISTILLED_STEPS = 5.0, 4
SUBJECTS = ("a red kite over the dunes", "a paper boat on a pond", "a fox in fresh snow", "a tram at night")
NEGATIVE_PROMPT = "blurred, static, low quality"


@dataclass(frozen=True)
class _Layout:
    """What tells one Wan model from another: its pipeline, its channels, its experts."""

    pipeline: str
    in_channels: int = 16
    latent_channels: int = 16
    image_encoder: bool = False
    first_and_last: bool = False
    boundary_ratio: float | None = None
    expand_timesteps: bool = False
    distilled: bool = False


LAYOUTS = {
    "t2v": _Layout("WanPipeline"),
    "i2v": _Layout("WanImageToVideoPipeline", 16 + 4 + 16, image_encoder=True),
    "flf2v": _Layout("WanImageToVideoPipeline", 16 + 4 + 16, image_encoder=True, first_and_last=True),
    "vace": _Layout("WanVACEPipeline"),
    "t2v-2.2": _Layout("WanPipeline", boundary_ratio=0.875),
    "i2v-2.2": _Layout("WanImageToVideoPipeline", 16 + 4 + 16, boundary_ratio=0.9),
    "ti2v-5b": _Layout("WanPipeline", 48, 48, expand_timesteps=True),
    "t2v-distilled": _Layout("WanPipeline", distilled=True),
}


def build_tiny(variant: Variant, folder: Path, seed: int = 0) -> Path:
    """Write a random pipeline in diffusers layout to `folder` and return it; the same seed gives the same bytes.

    `t2v`, `i2v`, `flf2v` (first and last frame) and `vace` are laid out as Wan2.1, `i2v` and `flf2v` with its image
    encoder; `t2v-2.2` and `i2v-2.2` as Wan2.2 with two transformers, `ti2v-5b` as Wan2.2's small model with its own VAE
    and a timestep per token. `t2v-distilled` is sampled as few-step models are: four steps by Euler, no guidance.
    Transformers are stored in bfloat16, sharded, their norms and modulation tables in float32.
    """
    layout = LAYOUTS[variant]
    with silenced_libraries(), torch.random.fork_rng(devices=[]):
        import diffusers

        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        parts: dict[str, Any] = {
            "tokenizer": tokenizer,
            "text_encoder": _text_encoder(len(tokenizer)),
            "vae": _vae(layout),
            "scheduler": _scheduler(layout),
            "transformer": _transformer(layout),
            "transformer_2": _transformer(layout) if layout.boundary_ratio else None,
        }
        if layout.pipeline == "WanImageToVideoPipeline":
            parts |= {"image_encoder": None, "image_processor": None}
        if layout.image_encoder:
            parts |= {"image_encoder": _image_encoder(), "image_processor": _image_processor()}
        if layout.pipeline != "WanVACEPipeline":
            parts["expand_timesteps"] = layout.expand_timesteps
        pipeline = getattr(diffusers, layout.pipeline)(**parts, boundary_ratio=layout.boundary_ratio)
        pipeline.save_pretrained(folder, max_shard_size="400KB")
    if layout.distilled:
        sampling = {"steps": DISTILLED_STEPS, "guidance_scale": 1.0}
        (folder / SAMPLING_FILE).write_text(json.dumps(sampling) + "\n", encoding="utf-8")
    return folder


def write_samples(folder: Path, count: int, with_images: bool) -> Path:
    """Write `samples.json` with `count` prompts and, if asked, what every model starts from; return `folder`.

    That is two drawn images of several shapes for each prompt, which are first frame, last frame and reference, and for
    VACE a video of 17 frames with a mask.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(count):
        entry = {"prompt": f"{SUBJECTS[index % len(SUBJECTS)]}, take {index}", "negative_prompt": NEGATIVE_PROMPT}
        if with_images:
            entry |= {"image": f"image_{index}.png", "last_image": f"last_{index}.png"}
            entry |= {"reference_images": entry["last_image"], "video": f"video_{index}.mkv", "mask": "mask.png"}
            _drawing(index).save(folder / entry["image"])
            _drawing(index + 1).save(folder / entry["last_image"])
            write_video(folder / entry["video"], _moving(_drawing(index)), fps=16)
            _mask().save(folder / entry["mask"])
        entries.append(entry)
    (folder / SAMPLES_FILE).write_text(json.dumps(entries, indent=2), encoding="utf-8")
    return folder


def _moving(picture: "Image") -> NDArray[np.uint8]:
    """The picture, sliding to the right by four pixels a frame."""
    return np.stack([np.roll(np.asarray(picture), 4 * frame, axis=1) for frame in range(VIDEO_FRAMES)])


def _mask() -> "Image":
    """White where the video is to be made anew: the right half."""
    from PIL import Image

    mask = Image.new("L", (96, 96))
    mask.paste(255, (48, 0, 96, 96))
    return mask


def _drawing(index: int) -> "Image":
    from PIL import Image, ImageDraw

    width, height = ((96, 96), (128, 80), (80, 112))[index % 3]
    image = Image.linear_gradient("L").resize((width, height)).rotate(90 * (index % 4))
    picture = Image.merge("RGB", (image, image.rotate(180), Image.new("L", (width, height), 60 + 50 * (index % 4))))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((width // 6, height // 6, width // 2, height // 2), fill=(240, 60 + 40 * (index % 4), 40))
    pen.rectangle((width // 2, height // 2, width - 8, height - 8), fill=(20, 90, 200 - 40 * (index % 4)))
    return picture


def _scheduler(layout: _Layout) -> Any:
    from diffusers import UniPCMultistepScheduler

    if layout.distilled:  # of first order and never corrected, UniPC is Euler
        once = {"solver_order": 1, "disable_corrector": list(range(DISTILLED_STEPS))}
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=DISTILLED_SHIFT, **once
        )
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def _transformer(layout: _Layout) -> nn.Module:
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    shape: dict[str, Any] = {}
    transformer_class = WanTransformer3DModel
    if layout.pipeline == "WanVACEPipeline":
        # What is there, what is to be made, and which of the 8 x 8 pixels under a latent are.
        shape = {"vace_layers": list(VACE_LAYERS), "vace_in_channels": 2 * layout.latent_channels + 8 * 8}
        transformer_class = WanVACETransformer3DModel
    model = transformer_class(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=layout.in_channels,
        out_channels=layout.latent_channels,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=FFN_DIM,
        num_layers=BLOCKS,
        image_dim=IMAGE_DIM if layout.image_encoder else None,
        added_kv_proj_dim=INNER_DIM if layout.image_encoder else None,
        pos_embed_seq_len=2 * IMAGE_TOKENS if layout.first_and_last else None,
        rope_max_seq_len=64,
        **shape,
    )
    with torch.no_grad():
        for block in (*model.blocks, *(model.vace_blocks if shape else ())):
            _give_structure(block)
        if layout.first_and_last:  # zeros when it is made, for which a lost one would not show
            model.condition_embedder.image_embedder.pos_embed.normal_()
    for name, parameter in model.named_parameters():
        if not set(name.split(".")) & set(model._keep_in_fp32_modules):
            parameter.data = parameter.data.bfloat16()
    return model


def _give_structure(block: Any) -> None:
    """Open the block's gates and give the inputs of its linears the outlier channels that trained models have."""
    shift, scale, gate = 0, 1, 2  # rows of the modulation table, for self-attention and again (+3) for the FFN
    for branch in (0, 3):
        block.scale_shift_table[0, branch + shift] *= 2
        block.scale_shift_table[0, branch + gate] += 1
        block.scale_shift_table[0, branch + scale, _outliers(INNER_DIM)] += OUTLIER_GAIN
    block.norm2.weight[_outliers(INNER_DIM)] *= OUTLIER_GAIN
    for linear in (block.attn1.to_v, block.attn2.to_v, block.ffn.net[0].proj):
        linear.weight[_outliers(linear.out_features)] *= OUTLIER_GAIN


def _outliers(channels: int) -> torch.Tensor:
    return torch.randperm(channels)[:OUTLIER_CHANNELS]


def _vae(layout: _Layout) -> nn.Module:
    from diffusers import AutoencoderKLWan

    channels = layout.latent_channels
    shape: dict[str, Any] = {"base_dim": 8, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1, "z_dim": channels}
    if layout.expand_timesteps:  # the VAE of Wan2.2's small model: 2x2 pixels are one, and blocks have shortcuts
        shape |= {
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
            "scale_factor_spatial": 16,
            "latents_mean": [0.0] * channels,
            "latents_std": [1.0] * channels,
        }
    vae = AutoencoderKLWan(**shape).eval()
    with torch.no_grad():  # a random decoder's output is nearly grey: stretch it to the contrast of a photograph
        frames = vae.decode(torch.randn(1, channels, 2, 8, 8)).sample
        last = vae.decoder.conv_out
        last.weight *= 0.5 / frames.std()
        last.bias.zero_()
    return vae


def _text_encoder(vocabulary: int) -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(
        UMT5Config(vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    ).eval()


def _tokenizer() -> Any:
    """Bytes as tokens, closed by `</s>`: any text in any script, and nothing to train."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = {token: index for index, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _image_encoder() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=IMAGE_DIM,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIDE,
        patch_size=IMAGE_PATCH,
    )
    return CLIPVisionModel(config).eval()


def _image_processor() -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )
