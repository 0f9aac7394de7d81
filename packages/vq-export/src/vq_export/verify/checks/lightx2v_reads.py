"""Which tensors LightX2V reads from a Wan checkpoint: by native name, from what it is configured with.

The table follows LightX2V's loader, independently of the code that writes checkpoints, so that the two do not share a
mistake. With a `dit_quant_scheme`, q, k, v, o, k_img, v_img, ffn.0 and ffn.2 of every block are read as quantized,
without exception. A width that the configuration does not give is `None`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLAIN = ("F32", "BF16", "F16")
CODES = {"int8": ("I8",), "fp8": ("F8_E4M3",)}
SCHEMES = {
    "int8": ("vllm", "sgl", "triton", "torchao", "q8f", "npu", "tmo", "iluvatar", "vllm-hygon-dcu"),
    "fp8": ("vllm", "sgl", "triton", "torchao", "q8f", "intel-xpu", "musa"),
}
"""By number format the kernels that take one scale per output channel, `[out, 1]`; others read other tensors."""
IMAGE_TASKS = ("i2v", "flf2v", "animate", "s2v", "rs2v")
"""Tasks for which CLIP's image tokens are read unless `use_image_encoder` is false."""
VACE_INPUT = 96

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Read:
    """One tensor that is read: its shape, `None` for any width, and the dtypes that are accepted."""

    shape: Shape
    dtypes: tuple[str, ...]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Is `shape` the one that is read?"""
        return len(shape) == len(self.shape) and all(
            wanted in (None, width) for wanted, width in zip(self.shape, shape, strict=True)
        )


def number_format(scheme: object) -> str | None:
    """`int8` or `fp8` for a `dit_quant_scheme` of `SCHEMES`, else None."""
    known = {f"{fmt}-{kernel}": fmt for fmt, kernels in SCHEMES.items() for kernel in kernels}
    return known.get(str(scheme))


def reads_image(config: Mapping[str, Any]) -> bool:
    """Does LightX2V read the projections of CLIP's image tokens?"""
    return config.get("task") in IMAGE_TASKS and bool(config.get("use_image_encoder", True))


def tensors_read(config: Mapping[str, Any], fmt: str, *, smoothed: bool) -> dict[str, Read]:
    """Every tensor that is read with the merged configuration `config`.

    `fmt` is the number format of the scheme, `smoothed` whether `quant_method` is `advanced_ptq`.
    """
    reads = dict(_outside(config))
    for index in range(config["num_layers"]):
        reads |= _block(f"blocks.{index}", config, fmt, smoothed)
    if "vace" in str(config["model_cls"]):
        dim, patch = config["dim"], tuple(config["patch_size"])
        reads |= {
            "vace_patch_embedding.weight": Read((dim, config.get("vace_in_dim", VACE_INPUT), *patch), PLAIN),
            "vace_patch_embedding.bias": Read((dim,), PLAIN),
        }
        for index, layer in enumerate(config["vace_layers"]):
            reads |= _block(f"vace_blocks.{index}", config, fmt, smoothed)
            for projection in ("after_proj", *(["before_proj"] if layer == 0 else [])):
                reads |= _plain_linear(f"vace_blocks.{index}.{projection}", dim, dim)
    return reads


def _outside(config: Mapping[str, Any]) -> Iterator[tuple[str, Read]]:
    dim, patch = config["dim"], tuple(config["patch_size"])
    patched = config["out_dim"] * patch[0] * patch[1] * patch[2]
    yield "patch_embedding.weight", Read((dim, config["in_dim"], *patch), PLAIN)
    yield "patch_embedding.bias", Read((dim,), PLAIN)
    yield "head.modulation", Read((1, 2, dim), PLAIN)
    linears: dict[str, Shape] = {
        "text_embedding.0": (dim, config.get("text_dim")),
        "text_embedding.2": (dim, dim),
        "time_embedding.0": (dim, config["freq_dim"]),
        "time_embedding.2": (dim, dim),
        "time_projection.1": (6 * dim, dim),
        "head.head": (patched, dim),
    }
    if reads_image(config):
        linears |= {"img_emb.proj.1": (None, None), "img_emb.proj.3": (dim, None)}
        for norm, width in (("img_emb.proj.0", None), ("img_emb.proj.4", dim)):
            yield f"{norm}.weight", Read((width,), PLAIN)
            yield f"{norm}.bias", Read((width,), PLAIN)
        if config["task"] == "flf2v":
            yield "img_emb.emb_pos", Read((1, None, None), PLAIN)
    for name, (out_features, in_features) in linears.items():
        yield from _plain_linear(name, out_features, in_features).items()


def _block(block: str, config: Mapping[str, Any], fmt: str, smoothed: bool) -> dict[str, Read]:
    dim, ffn_dim = config["dim"], config["ffn_dim"]
    linears = {f"{attention}.{name}": (dim, dim) for attention in ("self_attn", "cross_attn") for name in "qkvo"}
    linears |= {"ffn.0": (ffn_dim, dim), "ffn.2": (dim, ffn_dim)}
    vectors = [f"{attention}.norm_{name}.weight" for attention in ("self_attn", "cross_attn") for name in "qk"]
    vectors += ["norm3.weight", "norm3.bias"]
    if reads_image(config):
        linears |= {"cross_attn.k_img": (dim, dim), "cross_attn.v_img": (dim, dim)}
        vectors.append("cross_attn.norm_k_img.weight")
    reads = {f"{block}.{name}": Read((dim,), PLAIN) for name in vectors}
    if smoothed:
        gains = [f"affine_norm{number}.{part}" for number in (1, 3) for part in ("weight", "bias")]
        reads |= {f"{block}.{name}": Read((dim,), ("F32",)) for name in gains}
    reads[f"{block}.modulation"] = Read((1, 6, dim), PLAIN)
    for name, (out_features, in_features) in linears.items():
        stem = f"{block}.{name}"
        reads[f"{stem}.weight"] = Read((out_features, in_features), CODES[fmt])
        # A flat scale loads too, but kernels that transpose it then compute nonsense.
        reads[f"{stem}.weight_scale"] = Read((out_features, 1), ("F32",))
        # Other dtypes load too, but `lazy_load` casts none, and the kernels of vllm, sgl and fp8-torchao then fail.
        reads[f"{stem}.bias"] = Read((out_features,), ("BF16",))
    return reads


def _plain_linear(name: str, out_features: int | None, in_features: int | None) -> dict[str, Read]:
    return {f"{name}.weight": Read((out_features, in_features), PLAIN), f"{name}.bias": Read((out_features,), PLAIN)}
