"""Options that belong to the other engine."""

from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_infer.options import EngineName, VideoOptions
from vq_infer.run import run


@pytest.mark.parametrize(
    ("engine", "said", "sentence"),
    [
        ("native", {"backend": "x"}, "--backend is for LightX2V"),
        ("native", {"lightx2v_python": "x"}, "--lightx2v-python is for LightX2V"),
        ("lightx2v", {"attention": "fp8"}, "--attention is for the native engine"),
        ("lightx2v", {"cache": "taylorseer"}, "--cache is for the native engine"),
        ("lightx2v", {"offload": "none"}, "--offload is for the native engine"),
        ("lightx2v", {"vae_tiling": False}, "--vae-tiling is for the native engine"),
        ("lightx2v", {"ulysses": 2}, "--ulysses is for the native engine"),
        ("lightx2v", {"ring": 2}, "--ring is for the native engine"),
        ("lightx2v", {"cfg_parallel": True}, "--cfg-parallel is for the native engine"),
    ],
)
def test_options_of_the_other_engine(engine: EngineName, said: dict[str, Any], sentence: str) -> None:
    options = VideoOptions(model="m", checkpoint=Path("c"), prompt="p", output=Path("o.mp4"), engine=engine, **said)
    with pytest.raises(VqError, match=sentence):
        run("t2v", options)
