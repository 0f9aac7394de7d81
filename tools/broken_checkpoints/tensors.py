"""Breaks of tensors that show in names, dtypes, shapes or single values."""

import torch
from torch import Tensor

from broken_checkpoints.content import Broken, Content

Q = "blocks.1.self_attn.q"
UP = "blocks.1.ffn.0"
GAIN = "blocks.1.affine_norm3"


def twice(content: Content) -> None:
    tensor = content.tensor(f"{Q}.bias").clone()
    content.rewrite(content.path / "non_block.safetensors", lambda tensors: tensors.update({f"{Q}.bias": tensor}))


def keep_in_half_precision(content: Content) -> None:
    codes, scale = content.tensor(f"{Q}.weight"), content.tensor(f"{Q}.weight_scale")
    content.drop(f"{Q}.weight_scale")
    content.change(f"{Q}.weight", lambda _: (codes.float() * scale).bfloat16())


def both_gains(content: Content, value: float) -> None:
    content.put(f"{GAIN}.weight", 3, value)
    content.put(f"{GAIN}.bias", 3, value)


def add_tensor(content: Content) -> None:
    extra = {"blocks.1.extra.weight": torch.ones(2)}
    content.rewrite(content.path / "block_1.safetensors", lambda tensors: tensors.update(extra))


def drop_gains(content: Content) -> None:
    for part in ("weight", "bias"):
        content.drop(f"{GAIN}.{part}")


def to_fp8(tensor: Tensor) -> Tensor:
    return tensor.float().to(torch.float8_e4m3fn)


TENSORS = (
    Broken(
        "a lost scale",
        "loads; fails when the linear is applied",
        f"`{Q}.weight_scale` is missing",
        lambda content: content.drop(f"{Q}.weight_scale"),
    ),
    Broken(
        "a lost bias",
        "loads, and silently omits the bias",
        f"`{Q}.bias` is missing",
        lambda content: content.drop(f"{Q}.bias"),
    ),
    Broken(
        "a bias in fp32",
        "loads; with lazy_load the kernels of vllm, sgl and fp8-torchao refuse it",
        f"`{Q}.bias` is F32 and should be BF16",
        lambda content: content.change(f"{Q}.bias", Tensor.float),
    ),
    Broken("lost codes", "KeyError", f"`{Q}.weight` is missing", lambda content: content.drop(f"{Q}.weight")),
    Broken(
        "a lost modulation table",
        "KeyError",
        "`blocks.1.modulation` is missing",
        lambda content: content.drop("blocks.1.modulation"),
    ),
    Broken("lost gains", "KeyError", f"`{GAIN}.weight` is missing", drop_gains),
    Broken(
        "the image keys of an image-to-video model lost",
        "KeyError",
        "`blocks.1.cross_attn.k_img.weight` is missing",
        lambda content: content.drop("blocks.1.cross_attn.k_img.weight"),
    ),
    Broken(
        "one linear left in half precision",
        "reads every linear of every block as quantized: fails when it is applied",
        f"`{Q}.weight_scale` is missing",
        keep_in_half_precision,
    ),
    Broken(
        "a prefix before every name",
        "strips none: KeyError",
        "`patch_embedding.weight` is missing",
        lambda content: content.rename(lambda name: f"model.diffusion_model.{name}"),
    ),
    Broken("an extra tensor", "silently ignores it", "`blocks.1.extra.weight` in block_1.safetensors", add_tensor),
    Broken("a duplicate tensor", "takes whichever it reads last", "LightX2V takes whichever", twice),
    Broken(
        "a transposed weight",
        "checks no shape: fails, or computes nonsense, when the linear is applied",
        f"`{UP}.weight` is [64, 160] and should be [160, 64]",
        lambda content: content.change(f"{UP}.weight", torch.t),
    ),
    Broken(
        "flat scales",
        "loads; torchao's kernels, which transpose the scale, compute nonsense",
        f"`{Q}.weight_scale` is [64] and should be [64, 1]",
        lambda content: content.change(f"{Q}.weight_scale", torch.flatten),
    ),
    Broken(
        "FP8 codes in an INT8 checkpoint",
        "checks no dtype: fails, or computes nonsense, when the linear is applied",
        f"`{Q}.weight` is F8_E4M3 and should be I8",
        lambda content: content.change(f"{Q}.weight", to_fp8),
    ),
    Broken(
        "scales stored in bfloat16",
        "loads; every reader that takes them for fp32 fails",
        f"`{Q}.weight_scale` is BF16 and should be F32",
        lambda content: content.change(f"{Q}.weight_scale", lambda scale: scale.bfloat16()),
    ),
    Broken(
        "scales that are not bfloat16 values",
        "rounds them as it loads: rows are off by up to 0.4 %",
        f"`{Q}.weight_scale` of transformer holds values that a cast to bfloat16 would change",
        lambda content: content.change(f"{Q}.weight_scale", lambda scale: scale * 1.001),
    ),
    Broken(
        "a gain that is not a bfloat16 value",
        "rounds it as it loads: the channel is off by up to 0.4 %",
        f"`{GAIN}.weight` of transformer holds values that a cast to bfloat16 would change",
        lambda content: both_gains(content, 1.001),
    ),
    Broken(
        "NaN in a scale",
        "loads; everything that depends on it is NaN",
        f"`{Q}.weight_scale` of transformer holds NaN",
        lambda content: content.put(f"{Q}.weight_scale", 3, float("nan")),
    ),
    Broken(
        "NaN among FP8 codes",
        "loads; everything that depends on it is NaN",
        f"`{Q}.weight` of transformer holds NaN",
        lambda content: content.put(f"{Q}.weight", 3, float("nan")),
        example="fp8",
    ),
    Broken(
        "a scale of zero",
        "loads; the row's output is its bias",
        "holds values that are not positive",
        lambda content: content.put(f"{Q}.weight_scale", 3, 0.0),
    ),
    Broken(
        "the code −128",
        "loads: the sign that scales or codes were computed in half precision",
        "holds the code −128",
        lambda content: content.put(f"{Q}.weight", 3, -128),
    ),
    Broken(
        "zero affine_norm.bias",
        "loads, and loses the modulation's shift: `.bias` is a factor of it, not an offset",
        f"`{GAIN}.bias` of transformer holds values that are not positive",
        lambda content: content.change(f"{GAIN}.bias", torch.zeros_like),
    ),
    Broken(
        "another affine_norm.bias than .weight",
        "loads; scale and shift are smoothed differently",
        "smooth one input: it would be smoothed in two ways",
        lambda content: content.put(f"{GAIN}.bias", 3, 8.0),
    ),
)
