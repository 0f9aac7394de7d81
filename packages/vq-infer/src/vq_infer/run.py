"""From what was said on the command line to the engine that does it."""

from vq_core.errors import VqError
from vq_infer import lightx2v
from vq_infer.engine import native
from vq_infer.options import Task, VideoOptions
from vq_infer.request import Outcome, resolve_request


def run(task: Task, options: VideoOptions) -> Outcome | None:
    """Make the video that `options` describe; None in every process but the first of those that make one together.

    Raises:
        VqError: an option is missing, or belongs to another engine; else see the engine's `generate`.
    """
    if options.engine == "lightx2v":
        for name, value, default in (
            ("--attention", options.attention, "sdpa"),
            ("--cache", options.cache, None),
            ("--offload", options.offload, "auto"),
            ("--vae-tiling", options.vae_tiling, None),
            ("--ulysses", options.ulysses, 1),
            ("--ring", options.ring, 1),
            ("--cfg-parallel", options.cfg_parallel, False),
        ):
            if value != default:
                raise VqError(f"{name} is for the native engine: LightX2V has its own settings; leave it out.")
        return lightx2v.generate(resolve_request(task, options), options.lightx2v_python, options.backend)
    for name, value in (("--lightx2v-python", options.lightx2v_python), ("--backend", options.backend)):
        if value is not None:
            raise VqError(f"{name} is for LightX2V: add --engine lightx2v or leave it out.")
    return native.generate(resolve_request(task, options))
