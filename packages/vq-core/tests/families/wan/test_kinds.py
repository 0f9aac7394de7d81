"""Which Wan a model is, and what is none or half of one."""

from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.families.wan.kinds import KINDS, kind_of, model_type

CLIP = {"image_dim": 1280, "added_kv_proj_dim": 5120}
T2V = {"in_channels": 16, "out_channels": 16, "num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824}
I2V = T2V | {"in_channels": 36}
VACE = T2V | {"vace_layers": [0, 5], "vace_in_channels": 96}
TI2V = T2V | {"in_channels": 48, "out_channels": 48}


@pytest.mark.parametrize(
    ("config", "experts", "name"),
    [
        (T2V, 1, "Wan2.1 T2V"),
        (I2V | CLIP, 1, "Wan2.1 I2V"),
        (I2V | CLIP | {"pos_embed_seq_len": 514}, 1, "Wan2.1 FLF2V"),
        (VACE, 1, "Wan2.1 VACE"),
        (T2V, 2, "Wan2.2 T2V A14B"),
        (I2V, 2, "Wan2.2 I2V A14B"),
        (VACE, 2, "Wan2.2 VACE A14B"),
        (TI2V, 1, "Wan2.2 TI2V 5B"),
    ],
)
def test_every_published_model_is_known(config: dict[str, Any], experts: int, name: str) -> None:
    assert kind_of([config] * experts, "here", experts=experts).name == name


def test_the_names_are_those_of_the_table() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) == 8


@pytest.mark.parametrize(
    ("config", "experts", "name"),
    [
        (I2V, 1, "Wan2.2 I2V A14B"),  # no other model has 36 channels and no image encoder
        (T2V, 2, "Wan2.2 T2V A14B"),
        (I2V, 2, "Wan2.2 I2V A14B"),
        (VACE, 2, "Wan2.2 VACE A14B"),
    ],
)
def test_one_expert_alone_is_refused(config: dict[str, Any], experts: int, name: str) -> None:
    with pytest.raises(VqError, match=rf"^here is one expert of {name} .*: give the folder that holds both\.$"):
        kind_of([config], "here", experts=experts)


@pytest.mark.parametrize(
    ("configs", "experts", "found"),
    [
        ([T2V | {"in_channels": 48}], 1, "one transformer; 48 to 16 channels, no image encoder, 40 blocks"),
        ([T2V | {"in_channels": 52}], 1, "52 to 16 channels"),
        ([T2V | {"in_channels": 48} | CLIP], 1, "48 to 16 channels, an image encoder"),
        ([I2V | {"pos_embed_seq_len": 514}], 1, "36 to 16 channels, no image encoder, positions of two frames"),
        ([T2V | CLIP], 1, "16 to 16 channels, an image encoder"),
        ([VACE | CLIP], 1, "an image encoder, VACE blocks"),
        ([VACE | {"in_channels": 36}], 1, "36 to 16 channels, no image encoder, VACE blocks"),
        ([TI2V, TI2V], 2, "two transformers; 48 to 48 channels"),
        ([TI2V], 2, "two transformers; 48 to 48 channels"),
        ([I2V | CLIP] * 2, 2, "two transformers; 36 to 16 channels, an image encoder"),
        ([I2V | CLIP], 2, "two transformers; 36 to 16 channels, an image encoder"),
        ([T2V | {"in_channels": 100, "out_channels": 48}], 1, "100 to 48 channels"),
        ([T2V | {"in_channels": 32, "out_channels": 32}], 1, "32 to 32 channels"),
    ],
)
def test_what_nobody_published_is_refused_by_what_it_has(
    configs: list[dict[str, Any]], experts: int, found: str
) -> None:
    with pytest.raises(VqError) as refusal:
        kind_of(configs, "here", experts=experts)
    assert str(refusal.value).startswith("here is no Wan that is known here (")
    assert found in str(refusal.value)
    assert all(kind.name in str(refusal.value) for kind in KINDS)


@pytest.mark.parametrize("change", [{"in_channels": 36}, CLIP, {"num_layers": 30}, {"ffn_dim": 8960}])
def test_two_transformers_of_different_models_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(VqError, match="The two transformers of here differ, 16 to 16 channels, .*: give two experts"):
        kind_of([T2V, T2V | change], "here", experts=2)


@pytest.mark.parametrize("channels", [(48, 16), (52, 16), (100, 48), (32, 32)])
def test_no_name_is_made_up_for_other_channels(channels: tuple[int, int]) -> None:
    with pytest.raises(VqError, match="is no Wan that is known here"):
        model_type(T2V | dict(zip(("in_channels", "out_channels"), channels, strict=True)))


def test_authors_shift_depends_on_the_size_for_wan21_i2v_alone() -> None:
    shifts = {kind.name: (kind.shift_for(480, 832), kind.shift_for(720, 1280)) for kind in KINDS}
    assert shifts.pop("Wan2.1 I2V") == (3.0, 5.0)
    assert all(small == large for small, large in shifts.values())
