"""`vq-infer`: make videos from a quantized checkpoint."""

from typing import Annotated

import typer

from vq_core.cli import new_app, report, set_up_logging
from vq_core.cli import run as run_app
from vq_core.location import Location
from vq_core.options import (
    AsJson,
    Device,
    Fps,
    GuidanceScale,
    GuidanceScale2,
    Height,
    Model,
    ModelOrDefault,
    NumFrames,
    Output,
    Recipe,
    Seed,
    Steps,
    Verbose,
    Width,
    path_option,
)
from vq_infer.bench.cli import bench
from vq_infer.options import EngineName, Options

app = new_app("Make videos from a quantized checkpoint.")

Checkpoint = Annotated[Location | None, path_option("--checkpoint", help="Folder that vq-export wrote.")]
Image = Annotated[Location | None, path_option("--image", help="The first frame.")]
LastImage = Annotated[Location | None, path_option("--last-image", help="The last frame, for models that end at one.")]
ReferenceImages = Annotated[
    list[Location] | None,
    path_option("--reference", help="An image of what should appear in it; repeatable."),
]
SourceVideo = Annotated[Location | None, path_option("--video", help="The video that it is made over.")]
Mask = Annotated[
    Location | None,
    path_option("--mask", help="What of that is made anew: white in a video, or in an image for every frame."),
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="What the video shows.", show_default=False)]
NegativePrompt = Annotated[
    str, typer.Option("--negative-prompt", help="What it should not show.  [default: nothing]", show_default=False)
]
Engine = Annotated[EngineName, typer.Option("--engine", help="What runs the checkpoint.")]
LightX2VPython = Annotated[
    str | None,
    typer.Option("--lightx2v-python", help="Python that has LightX2V.  [default: this one]", show_default=False),
]
Backend = Annotated[
    str | None,
    typer.Option("--backend", help="Whose kernels LightX2V uses: vllm, sgl, …  [default: vllm]", show_default=False),
]


@app.callback()
def vq_infer() -> None:
    """Make videos from a quantized checkpoint."""


@app.command("i2v")
def i2v(
    model: ModelOrDefault = None,
    checkpoint: Checkpoint = None,
    image: Image = None,
    last_image: LastImage = None,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = "",
    output: Output = None,
    engine: Engine = "native",
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    fps: Fps = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    lightx2v_python: LightX2VPython = None,
    backend: Backend = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a video from an image and a prompt, or from a first and a last frame.

    The image keeps its aspect: height x width is the area. An output that ends in `.mkv` is lossless.

    For example:

        vq-infer i2v --model MODEL --checkpoint ckpt --image cat.jpg --prompt "A cat surfs" -o cat.mp4

        vq-infer i2v --engine lightx2v --model NATIVE --checkpoint ckpt --image cat.jpg --prompt "A cat" -o cat.mp4
    """
    from vq_infer.run import run

    set_up_logging(verbose)
    options = Options(
        model=model,
        checkpoint=checkpoint,
        prompt=prompt,
        negative_prompt=negative_prompt,
        image=image,
        last_image=last_image,
        output=output,
        engine=engine,
        steps=steps,
        height=height,
        width=width,
        num_frames=num_frames,
        guidance_scale=guidance_scale,
        guidance_scale_2=guidance_scale_2,
        fps=fps,
        seed=seed,
        device=device,
        recipe=recipe,
        lightx2v_python=lightx2v_python,
        backend=backend,
    )
    outcome = run("i2v", options)
    report(str(outcome.output), outcome.rows(), result=outcome.to_json(), as_json=as_json)


@app.command("t2v")
def t2v(
    model: Model = None,
    checkpoint: Checkpoint = None,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = "",
    output: Output = None,
    engine: Engine = "native",
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    fps: Fps = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    lightx2v_python: LightX2VPython = None,
    backend: Backend = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a video from a prompt.

    An output that ends in `.mkv` is lossless.

    For example:

        vq-infer t2v --model Wan-AI/Wan2.1-T2V-14B-Diffusers --checkpoint ckpt --prompt "A cat surfs" -o cat.mp4

        vq-infer t2v --recipe recipe.yaml --prompt "A cat surfs" --steps 20 --seed 7 -o cat.mp4
    """
    from vq_infer.run import run

    set_up_logging(verbose)
    options = Options(
        model=model,
        checkpoint=checkpoint,
        prompt=prompt,
        negative_prompt=negative_prompt,
        output=output,
        engine=engine,
        steps=steps,
        height=height,
        width=width,
        num_frames=num_frames,
        guidance_scale=guidance_scale,
        guidance_scale_2=guidance_scale_2,
        fps=fps,
        seed=seed,
        device=device,
        recipe=recipe,
        lightx2v_python=lightx2v_python,
        backend=backend,
    )
    outcome = run("t2v", options)
    report(str(outcome.output), outcome.rows(), result=outcome.to_json(), as_json=as_json)


@app.command("vace")
def vace(
    model: Model = None,
    checkpoint: Checkpoint = None,
    reference_images: ReferenceImages = None,
    video: SourceVideo = None,
    mask: Mask = None,
    prompt: Prompt = None,
    negative_prompt: NegativePrompt = "",
    output: Output = None,
    engine: Engine = "native",
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    fps: Fps = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    lightx2v_python: LightX2VPython = None,
    backend: Backend = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a video from a prompt, steered by reference images, or by a video and a mask (VACE).

    A video keeps its aspect: height x width is the area. An output that ends in `.mkv` is lossless.

    For example:

        vq-infer vace --model MODEL --checkpoint ckpt --reference cat.png --reference sea.png --prompt "A cat" -o c.mp4

        vq-infer vace --model MODEL --checkpoint ckpt --video cat.mp4 --mask sea.png --prompt "A dog surfs" -o dog.mp4
    """
    from vq_infer.run import run

    set_up_logging(verbose)
    options = Options(
        model=model,
        checkpoint=checkpoint,
        prompt=prompt,
        negative_prompt=negative_prompt,
        reference_images=tuple(reference_images or ()),
        video=video,
        mask=mask,
        output=output,
        engine=engine,
        steps=steps,
        height=height,
        width=width,
        num_frames=num_frames,
        guidance_scale=guidance_scale,
        guidance_scale_2=guidance_scale_2,
        fps=fps,
        seed=seed,
        device=device,
        recipe=recipe,
        lightx2v_python=lightx2v_python,
        backend=backend,
    )
    outcome = run("vace", options)
    report(str(outcome.output), outcome.rows(), result=outcome.to_json(), as_json=as_json)


app.command("bench")(bench)


def main() -> None:
    """Entry point of the `vq-infer` command."""
    run_app(app)
