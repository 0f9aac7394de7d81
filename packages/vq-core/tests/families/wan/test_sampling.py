from typing import Any

import pytest

from vq_core.families.wan.sampling import usual_sampling
from vq_core.recipes.recipe import DEFAULTS, Defaults


@pytest.mark.parametrize(
    ("config", "experts", "expected"),
    [
        ({"in_channels": 36, "image_dim": 1280}, 1, DEFAULTS),
        ({}, 1, Defaults(steps=50)),
        (
            {"in_channels": 36, "image_dim": 1280, "pos_embed_seq_len": 514},
            1,
            Defaults(steps=50, height=720, width=1280),
        ),
        ({"vace_layers": [0, 1]}, 1, Defaults(steps=50)),
        ({"vace_layers": [0, 1]}, 2, Defaults(guidance_scale=3.5)),
        ({"in_channels": 36}, 1, Defaults(guidance_scale=3.5)),  # one expert of a pair
        ({"in_channels": 36}, 2, Defaults(guidance_scale=3.5)),
        ({}, 2, Defaults(guidance_scale=4.0, guidance_scale_2=3.0)),
        ({"in_channels": 48, "out_channels": 48}, 1, Defaults(50, 704, 1280, 121, 5.0, fps=24)),
    ],
)
def test_each_published_model_is_sampled_as_its_authors_do(
    config: dict[str, Any], experts: int, expected: Defaults
) -> None:
    channels = {"in_channels": 16, "out_channels": 16}
    assert DEFAULTS.with_said(usual_sampling(channels | config, experts)) == expected


def test_of_what_was_never_published_nothing_is_known() -> None:
    assert usual_sampling({"in_channels": 48, "out_channels": 48}, 2) == {}
