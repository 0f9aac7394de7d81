"""The choice of the engine that makes a video."""

from collections.abc import Iterable

from vq_core.errors import VqError
from vq_infer import lightx2v
from vq_infer.engine import native
from vq_infer.options import Task, VideoOptions
from vq_infer.request import Outcome, resolve_request

NATIVE_ONLY = ("attention", "cache", "offload", "vae_tiling", "ulysses", "ring", "cfg_parallel")
LIGHTX2V_ONLY = ("lightx2v_python", "backend")


def run(task: Task, options: VideoOptions) -> Outcome | None:
    """Make the video that `options` describe; None in all processes but the first.

    Raises:
        VqError: an option is missing or belongs to the other engine, or see the engine's `generate`.
    """
    if options.engine == "lightx2v":
        if option := _given(options, NATIVE_ONLY):
            raise VqError(f"{option} is for the native engine: LightX2V has its own settings; leave it out.")
        return lightx2v.generate(resolve_request(task, options), options.lightx2v_python, options.backend)
    if option := _given(options, LIGHTX2V_ONLY):
        raise VqError(f"{option} is for LightX2V: add --engine lightx2v or leave it out.")
    return native.generate(resolve_request(task, options))


def _given(options: VideoOptions, names: Iterable[str]) -> str | None:
    """The first of `names` that differs from its default, as it is typed."""
    given = (name for name in names if getattr(options, name) != getattr(VideoOptions, name))
    return next((f"--{name.replace('_', '-')}" for name in given), None)
