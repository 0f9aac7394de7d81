"""Options that belong to the other engine."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_infer.options import VideoOptions
from vq_infer.run import run


@pytest.mark.parametrize(("name", "option"), [("backend", "--backend"), ("lightx2v_python", "--lightx2v-python")])
def test_native_refuses_options_of_lightx2v(name: str, option: str) -> None:
    options = VideoOptions(model="m", checkpoint=Path("c"), prompt="p", output=Path("o.mp4"), **{name: "x"})
    with pytest.raises(VqError, match=f"{option} is for LightX2V"):
        run("t2v", options)


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ({"attention": "fp8"}, "--attention"),
        ({"cache": "taylorseer"}, "--cache"),
        ({"offload": "none"}, "--offload"),
        ({"vae_tiling": False}, "--vae-tiling"),
        ({"ulysses": 2}, "--ulysses"),
        ({"ring": 2}, "--ring"),
        ({"cfg_parallel": True}, "--cfg-parallel"),
    ],
)
def test_lightx2v_refuses_options_of_the_native_engine(said: dict[str, object], option: str) -> None:
    options = VideoOptions(model="m", checkpoint=Path("c"), prompt="p", output=Path("o.mp4"), engine="lightx2v", **said)
    with pytest.raises(VqError, match=f"{option} is for the native engine"):
        run("t2v", options)
