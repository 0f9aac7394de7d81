"""The encoders of a Wan pipeline: each is loaded, used for all samples, and gone when its function returns."""

import gc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.finite_results import require_finite_embedding
from vq_core.sampling.pretrained import load_model, load_other, used_as_configured
from vq_core.sampling.prompts import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

TEXT_TOKENS = 512  # the attention of Wan2.1 image-to-video splits its context at this number, whatever it was given


@torch.no_grad()
def encode_texts(
    model: Path, samples: Sequence[Sample], *, guided: bool, device: str, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor | None]]:
    """Prompt and, if `guided`, negative prompt of every sample through the pipeline's UMT5.

    Returns:
        Embeddings [1, 512, text_dim] of type `dtype` on the host, zero behind the text's own tokens.

    Raises:
        VqError: one holds NaN or infinity.
    """
    with silenced_libraries():
        from diffusers import WanPipeline
        from transformers import AutoTokenizer, UMT5EncoderModel

        tokenizer = load_other(AutoTokenizer, model / "tokenizer", trust_remote_code=False)
        if tokenizer.pad_token is None:
            raise VqError(f"{model / 'tokenizer'} has no `pad_token`: get the whole pipeline again.")
        encoder: Any = load_model(
            UMT5EncoderModel, model / "text_encoder", dtype=dtype, device_map={"": torch.device(device)}
        )
        if len(tokenizer) > encoder.config.vocab_size:
            raise VqError(
                f"{model / 'tokenizer'} has {len(tokenizer)} tokens, and the text encoder {encoder.config.vocab_size}: "
                "get the whole pipeline again."
            )
        pipeline = WanPipeline(tokenizer=tokenizer, text_encoder=encoder, vae=None, scheduler=None)
    embeds = []
    for sample in samples:
        with used_as_configured(model):
            positive, negative = pipeline.encode_prompt(
                sample.prompt,
                sample.negative_prompt,
                do_classifier_free_guidance=guided,
                max_sequence_length=TEXT_TOKENS,
                device=device,
            )
        embeds.append((positive.cpu(), None if negative is None else negative.cpu()))
        for embedding in embeds[-1]:
            if embedding is not None:
                require_finite_embedding(embedding, "text encoder", model, sample)
    del encoder, pipeline
    _release_memory(device)
    return embeds


@torch.no_grad()
def encode_images(
    model: Path, samples: Sequence[Sample], images: "Iterable[Sequence[Image]]", *, device: str
) -> list[Tensor]:
    """The `images` of every sample through the pipeline's CLIP, in float32 as Wan's reference does.

    Returns:
        Hidden states of the last layer but one, which Wan was trained on: [images, tokens, image_dim] on the host.

    Raises:
        VqError: they hold NaN or infinity.
    """
    with silenced_libraries():
        from transformers import AutoImageProcessor, CLIPVisionModel

        # Named, because torchvision's resize differs in the last bits and would be used wherever it is installed.
        processor = load_other(AutoImageProcessor, model / "image_processor", backend="pil", trust_remote_code=False)
        encoder = load_model(
            CLIPVisionModel, model / "image_encoder", dtype=torch.float32, device_map={"": torch.device(device)}
        )
    embeds = []
    for sample, of_sample in zip(samples, images, strict=True):
        with used_as_configured(model / "image_processor"):
            pixels = processor(images=list(of_sample), return_tensors="pt").to(device)
        with used_as_configured(model / "image_encoder"):
            embeds.append(encoder(**pixels, output_hidden_states=True).hidden_states[-2].cpu())
        require_finite_embedding(embeds[-1], "image encoder", model, sample)
    del encoder
    _release_memory(device)
    return embeds


def _release_memory(device: str) -> None:
    """Give freed memory back; modules hold cycles, so they wait for the collector."""
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
