"""The harder twin is the same function as it is stored, and its second feed-forward linears have massive tokens."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.numerics.quantize import snr_db
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FIRST_FRAME, read_samples
from vq_core.sampling.settings import Sampling
from vq_wan_tiny.harder import build_harder
from vq_wan_tiny.massive_units import DOWN
from vq_wan_tiny.models import wan_tiny
from vq_wan_tiny.prompts import write_prompts

WIDE = 768


@pytest.fixture(scope="module")
def harder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "harder"
    build_harder(wan_tiny(), folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def conditions(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the transformer is given in a real video: its own text, image and noise, at an early and a late step."""
    pipeline = VideoPipeline(str(wan_tiny()), "cpu")
    seen: list[dict[str, Any]] = []
    pipeline.transformers["transformer"].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    prompts = tmp_path_factory.mktemp("prompts") / "one"
    write_prompts(prompts, 1, 0, held_out=True)
    sampling = Sampling(height=96, width=96, num_frames=17, steps=3)
    (encoded,) = pipeline.encode(read_samples(prompts, FIRST_FRAME), sampling)
    pipeline.denoise(encoded, sampling, seed=0)
    return [seen[0], seen[-1]]


def run(folder: Path, inputs: dict[str, Any], inner: dict[str, list[Tensor]] | None = None) -> Tensor:
    """Diffusers' own transformer in fp32; `inner` takes the inputs of the second feed-forward linears."""
    from diffusers import WanTransformer3DModel

    def look(name: str, module: nn.Module, args: tuple[Tensor]) -> None:
        if inner is not None:
            inner.setdefault(name, []).append(args[0].flatten(0, -2))

    model = WanTransformer3DModel.from_pretrained(str(folder / "transformer"), torch_dtype=torch.float32).eval()
    for name, module in model.named_modules():
        if name.endswith(DOWN):
            module.register_forward_pre_hook(partial(look, name))
    with torch.no_grad():
        output: Tensor = model(**inputs)[0]
    return output


def test_it_is_the_same_function_and_tokens_have_massive_activations_of_their_own(
    harder: Path, conditions: list[dict[str, Any]]
) -> None:
    inner: dict[str, list[Tensor]] = {}
    for inputs in conditions:
        assert snr_db(run(wan_tiny(), inputs), run(harder, inputs, inner)) > 85
    assert len(inner) == 5
    for seen in inner.values():
        x = torch.cat(seen)
        assert x.shape[1] == WIDE
        largest = x.amax(dim=1).median()
        assert 25 < largest < 80
        massive = x > largest / 4
        assert massive.sum(dim=1).float().mean() < 12  # of 768: few for each token,
        assert massive.any(dim=0).sum() > WIDE / 8  # and many in all, more than a rescale of GELU covers


def test_the_same_seed_gives_the_same_bytes(harder: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        build_harder(wan_tiny(), tmp_path / name, seed)
    weights = Path("transformer") / "diffusion_pytorch_model.safetensors"
    first, again, other = (
        (folder / weights).read_bytes() for folder in (harder, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first != other


def test_all_other_parts_are_copied(harder: Path) -> None:
    source, twin = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (wan_tiny(), harder)
    )
    assert source.keys() == twin.keys()
    assert {str(path) for path in source if source[path] != twin[path]} == {
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
    }
