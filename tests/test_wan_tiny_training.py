"""wan-tiny's training against what it stands in for: diffusers' own VAE, attention and pipeline."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from wan_tiny.training import massive_units, parts, train_transformer, whole_clip
from wan_tiny.training.assemble import assemble
from wan_tiny.training.curve import draw_curves, read_curves
from wan_tiny.training.dataset import TEXT_TOKENS, Dataset, condition, encode_clips, tokenize
from wan_tiny.training.denoiser import PIPELINE_TEXT_TOKENS, Denoiser
from wan_tiny.training.sample import sample_clips
from wan_tiny.training.train import Log
from wan_tiny.training.train_transformer import Schedule
from wan_tiny.training.train_vae import save_vae


def shaken(module: nn.Module, spread: float) -> Any:
    """`module` with noise on every parameter, so that none is zero or one."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vae() -> Any:
    """Random, with latents that need normalising."""
    torch.manual_seed(0)
    built = parts.build_vae().eval().requires_grad_(False)
    built.register_to_config(
        latents_mean=torch.randn(16).mul(0.1).tolist(), latents_std=[0.5 + 0.05 * c for c in range(16)]
    )
    return built


@pytest.fixture(scope="module")
def prepared(vae: Any) -> Any:
    """The same for whole clips."""
    copied = copy.deepcopy(vae)
    whole_clip.prepare(copied)
    return copied


@pytest.fixture(scope="module")
def data(prepared: Any) -> Dataset:
    return encode_clips(prepared, parts.build_tokenizer(), 4, 0, "cpu", batch=2)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(1)
    model: Denoiser = shaken(Denoiser(), 0.03)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vae: Any, denoiser: Denoiser) -> Path:
    """The pipeline assembled of both."""
    root = tmp_path_factory.mktemp("wan-tiny")
    save_vae(vae, root / "vae")
    return assemble(root / "vae", denoiser, root / "model")


def random_frames(count: int) -> Tensor:
    return torch.rand(2, 3, count, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 17])
@torch.no_grad()
def test_whole_clip_is_what_diffusers_does_in_chunks(vae: Any, frames: int) -> None:
    torch.manual_seed(3)
    chunked = shaken(copy.deepcopy(vae).double(), 0.02)
    whole = copy.deepcopy(chunked)
    whole_clip.prepare(whole)
    clips = random_frames(frames)
    expected = chunked.encode(clips).latent_dist
    mean, log_variance = whole_clip.encode(whole, clips)
    assert expected.logvar.std() > 0.01
    torch.testing.assert_close(mean, expected.mean, atol=1e-10, rtol=0)
    torch.testing.assert_close(log_variance, expected.logvar, atol=1e-10, rtol=0)
    decoded, again = whole_clip.decode(whole, 0.3 * mean), chunked.decode(0.3 * mean).sample
    assert decoded.std() > 0.01
    torch.testing.assert_close(decoded.clamp(-1, 1), again, atol=1e-10, rtol=0)


def test_captions_are_padded_to_one_length_and_a_longer_one_is_refused() -> None:
    tokenizer = parts.build_tokenizer()
    ids = tokenize(tokenizer, ["a red circle stays still", ""], "cpu")
    assert ids.shape == (2, TEXT_TOKENS)
    assert (ids != 0).sum(1).tolist() == [6, 1]
    with pytest.raises(ValueError, match="a caption has 81 tokens and the training has room for 64"):
        tokenize(tokenizer, ["a " * 80], "cpu")


def test_every_word_of_the_captions_is_in_the_vocabulary(data: Dataset) -> None:
    tokenizer = parts.build_tokenizer()
    assert not (data.tokens == tokenizer.unk_token_id).any()
    texts = tokenizer.batch_decode(data.tokens, skip_special_tokens=True)
    assert [text.replace(" ,", ",") for text in texts] == data.captions


@torch.no_grad()
def test_short_texts_are_the_pipelines_512_tokens(denoiser: Denoiser, data: Dataset) -> None:
    """The rotary embedding computes in float32, which is what remains of the error."""
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    model = copy.deepcopy(denoiser).double()
    text, image = model.encode_text(data.tokens[:2]), model.encode_image(data.images[:2])
    torch.manual_seed(4)
    inputs = torch.randn(2, 16, 5, 12, 12).double(), data.conditions[:2].double(), torch.tensor([0.3, 0.8]).double()
    short = model(*inputs, text, image)
    model.transformer.set_attn_processor(WanAttnProcessor())
    full = model(*inputs, nn.functional.pad(text, (0, 0, 0, PIPELINE_TEXT_TOKENS - text.shape[1])), image)
    without = model(*inputs, nn.functional.pad(text[:, :TEXT_TOKENS], (0, 0, 0, 1)), image)
    assert (full - without).abs().max() > 1e-3  # the paddings count
    torch.testing.assert_close(short, full, atol=1e-5, rtol=0)


@torch.no_grad()
def test_condition_is_what_the_pipeline_prepares(vae: Any, prepared: Any, data: Dataset) -> None:
    from diffusers import WanImageToVideoPipeline

    pipeline: Any = WanImageToVideoPipeline(None, None, vae, parts.build_scheduler())
    images = data.images[:2]
    ours = condition(prepared, images, 17, "cpu")
    draw = torch.Generator().manual_seed(0)
    for clip, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        first = pipeline.video_processor.preprocess(Image.fromarray(image), height=96, width=96)
        _, theirs = pipeline.prepare_latents(first, 1, 16, 96, 96, 17, torch.float32, torch.device("cpu"), draw)
        for prepared_here in (ours, data.conditions):
            torch.testing.assert_close(prepared_here[clip : clip + 1].float(), theirs, atol=1e-5, rtol=2**-8)


def test_sampled_clip_is_the_pipelines(folder: Path, data: Dataset, tmp_path: Path) -> None:
    """Both compute in float32 from the bfloat16 weights of the folder; only the conditions are rounded once more."""
    from diffusers import AutoencoderKLWan

    model = Denoiser().eval()
    video = VideoPipeline(str(folder), device="cpu")
    model.transformer.load_state_dict(video.transformers["transformer"].state_dict())
    for part in (model.text_encoder, model.image_encoder):
        name = "text_encoder" if part is model.text_encoder else "image_encoder"
        part.load_state_dict(type(part).from_pretrained(folder / name, dtype=torch.float32).state_dict())
    frozen = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    whole_clip.prepare(frozen)
    tokenizer = parts.build_tokenizer()
    one = Dataset(data.latents[:1], condition(frozen, data.images[:1], 17, "cpu"), data.images[:1], data.tokens[:1], [])
    ours = sample_clips(model, frozen, tokenizer, one, 5, "cpu", steps=2, guidance=3.0)[0]

    Image.fromarray(data.images[0].permute(1, 2, 0).numpy()).save(tmp_path / "first.png")
    sampling = Sampling(steps=2, height=96, width=96, num_frames=17, guidance_scale=3.0)
    sample = Sample(prompt=data.captions[0], image=tmp_path / "first.png")
    theirs = video.sample(video.encode([sample], sampling)[0], sampling, 5)
    assert ours.shape == theirs.shape == (17, 96, 96, 3)
    off = np.abs(ours.astype(int) - theirs)
    assert theirs.std() > 10
    assert off.mean() < 0.5
    assert off.max() <= 8


def test_training_lowers_the_loss(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_transformer, "WARMUP_STEPS", 1)
    losses: list[float] = []
    original = train_transformer._loss

    def watched(*arguments: Any) -> Tensor:
        loss: Tensor = original(*arguments)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(train_transformer, "_loss", watched)
    corner = replace(data, latents=data.latents[..., :6, :6], conditions=data.conditions[..., :6, :6])
    average = train_transformer.train_transformer(
        corner, parts.build_tokenizer(), 0, "cpu", lambda *_: None, Schedule(steps=15, batch=4), compiled=False
    )
    first, last = (sum(part) / 4 for part in (losses[:4], losses[-4:]))
    assert len(losses) == 15
    assert last < 0.9 * first
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_curves_are_what_was_logged_more_than_once(tmp_path: Path) -> None:
    log = Log(tmp_path / "run")
    for step in (100, 200, 300):
        log("transformer_loss", step, 1 / step)
    log("vae_seconds", 0, 12.5)
    curves = read_curves(tmp_path / "run")
    assert curves == {"transformer_loss": [(step, 1 / step) for step in (100, 200, 300)]}
    draw_curves({"run": curves}, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_each_massive_unit_fires_for_the_tokens_of_its_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(massive_units.PAIRS, 96, generator=generator)
    own = torch.randint(massive_units.PAIRS, (6000,), generator=generator)
    inputs = (centres[own] + 0.2 * torch.randn(6000, 96, generator=generator) + 3).double()
    clusters = massive_units.clusters_of(inputs, generator)
    rows, biases = massive_units.fit_rows(inputs, clusters)
    before_gelu = inputs @ rows.T + biases
    assert float(before_gelu.amax(dim=1).median()) == pytest.approx(massive_units.PEAK)
    assert float((before_gelu.argmax(dim=1) == clusters).double().mean()) > 0.95
    assert 0.9 < float((before_gelu > massive_units.FIRES).sum(dim=1).double().mean()) < 2
