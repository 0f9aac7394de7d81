import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vq_calib.planning.calib_prompts import RunPart, calib_prompts, digest_of, indices_of, parse_part, split_of
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FILES, FIRST_FRAME, ModelInputs, Sample, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1, ["by-token"]),
        (2, ["fit", "held-out"]),
        (4, ["fit", "fit", "fit", "held-out"]),
        (5, ["fit", "fit", "fit", "fit", "held-out"]),
        (11, (["fit"] * 4 + ["held-out"]) * 2 + ["fit"]),
    ],
)
def test_whole_prompts_are_held_out_where_there_are_several(total: int, expected: list[str]) -> None:
    assert [split_of(index, total) for index in range(total)] == expected


@pytest.mark.parametrize(("of", "total"), [(1, 1), (2, 3), (3, 3), (4, 11)])
def test_parts_divide_the_prompts(of: int, total: int) -> None:
    parts = [indices_of(RunPart(number, of), total) for number in range(1, of + 1)]
    assert all(part == [i for i in range(total) if i % of == number] for number, part in enumerate(parts))
    assert sorted(index for part in parts for index in part) == indices_of(None, total) == list(range(total))


def test_more_parts_than_prompts_are_refused() -> None:
    with pytest.raises(VqError, match="3 prompts do not fill 4 parts: divide the run into at most 3"):
        indices_of(RunPart(1, 4), 3)


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "a/b", "1/", "-1/2", "1/2/3", "1.0/2", f"1/{'9' * 5000}"])
def test_a_part_is_a_fraction_and_anything_else_is_refused(text: str) -> None:
    assert parse_part("2/12") == RunPart(2, 12)
    assert str(RunPart(2, 12)) == "2/12"
    with pytest.raises(VqError, match="is not K/N with K from 1 to N"):
        parse_part(text)


def test_prompts_know_their_place_and_size(
    tiny_model: Callable[[Variant], Path], prompts: Path, sampling: Sampling
) -> None:
    pipeline = VideoPipeline(str(tiny_model("i2v")), "cpu")
    samples = read_samples(prompts, FIRST_FRAME)
    chosen = calib_prompts(samples, [0, 2], pipeline, sampling)
    assert [(prompt.index, prompt.seed, prompt.split) for prompt in chosen] == [(0, 42, "fit"), (2, 44, "held-out")]
    # The images are 96 × 96 and 80 × 112: 64 × 64 and 48 × 64 pixels, 16 × 16 to a patch, in two latent frames.
    assert [prompt.tokens for prompt in chosen] == [2 * 4 * 4, 2 * 3 * 4]
    assert [prompt.sha256 for prompt in chosen] == [digest_of(samples[0]), digest_of(samples[2])]
    assert chosen[0].digest_word == int(chosen[0].sha256, 16) >> 192


def test_reference_images_have_tokens_too(
    tiny_model: Callable[[Variant], Path], prompts: Path, sampling: Sampling
) -> None:
    pipeline = VideoPipeline(str(tiny_model("vace")), "cpu")
    sample = replace(read_samples(prompts, pipeline.inputs)[0], video=None, mask=None)
    (image,) = sample.reference_images
    tokens = [
        calib_prompts([replace(sample, reference_images=(image,) * count)], [0], pipeline, sampling)[0].tokens
        for count in (0, 1, 2)
    ]
    assert tokens == [2 * 16, 3 * 16, 4 * 16]


def test_the_digest_is_of_texts_and_the_bytes_of_every_file(tmp_path: Path, prompts: Path) -> None:
    full = read_samples(prompts, ModelInputs(optional=FILES))[0]
    assert full.image is not None
    copy = shutil.copy(full.image, tmp_path / "other.png")
    assert digest_of(replace(full, image=Path(copy))) == digest_of(full)
    with copy.open("ab") as file:
        file.write(b"\0")
    only_image = Sample(full.prompt, full.negative_prompt, full.image)
    others = [
        replace(full, last_image=None),
        replace(full, reference_images=()),
        replace(full, reference_images=full.reference_images * 2),
        replace(full, mask=None),
        replace(only_image, last_image=full.image),
        replace(only_image, reference_images=(full.image,)),
        only_image,
        replace(full, image=Path(copy)),
        replace(full, image=None),
        replace(full, prompt="!"),
        replace(full, negative_prompt="!"),
        replace(full, prompt=full.negative_prompt, negative_prompt=full.prompt),
    ]
    assert len({digest_of(other) for other in [full, *others]}) == 13
    # The digest of a sample with an image alone is what it was before there were other files.
    image = hashlib.sha256(full.image.read_bytes()).hexdigest()
    plain = json.dumps([full.prompt, full.negative_prompt, image]).encode()
    assert digest_of(only_image) == hashlib.sha256(plain).hexdigest()
