"""Models that other tools have quantized per channel: those of LLMC's `save_lightx2v`, and those in LightX2V's layout.

`weight_scale` stands beside each linear's codes, and gains are `affine_norm`s. No weight is rounded anew. Scales and
gains are cast to bfloat16, as LightX2V casts them when it loads: the function stays the same. The code −128, which
LLMC's arithmetic in bfloat16 gives, is kept: every kernel multiplies it like any other.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import cast

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.artifacts.stored_scheme import BY_DTYPE
from vq_core.errors import VqError
from vq_core.model.already_quantized import IMPORTED, quantizer_of
from vq_core.model.source import TRANSFORMER_FILES, fingerprint_of, resolve_model
from vq_core.model.source_gains import SourceGains
from vq_core.model.source_layout import StoredTransformer, read_transformer, require_tensors, transformer_paths
from vq_core.model.tensor_naming import load_stored
from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import Quantized, dequantize
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import QuantScheme
from vq_core.topology import Linear
from vq_export.model.derived import Derived
from vq_export.model.quantized_model import QuantizedModel


class _StoredCodes:
    """A transformer in the codes of another tool, `method`."""

    def __init__(self, stored: StoredTransformer, method: str) -> None:
        self._method = method
        self._where = stored.where
        self.topology = stored.family.topology(stored.config)
        self.config: dict[str, JsonValue] = stored.config
        self.lora: Sequence[Mapping[str, JsonValue]] = ()
        self._gains = SourceGains(stored, self.topology)
        scales = [f"{linear.name}.weight_scale" for linear in self.topology.linears]
        # LLMC marks the linears that it was told to ignore.
        marks = [name for name in stored.tensors if name.endswith(".no_quant")]
        require_tensors(stored, self.topology.tensors, besides=[*scales, *self._gains.tensors, *marks])
        self.scheme = _scheme(stored, self.topology.linears)
        self._stored = stored.tensors
        self._names = [*self.topology.tensors, *scales, *self._gains.tensors]

    @property
    def has_affine_norms(self) -> bool:
        """Do gains come with it, which may all be one?"""
        return self._gains.present

    @cached_property
    def fingerprint(self) -> str:
        """Of the quantized tensors: the original ones are not known."""
        return fingerprint_of(self._stored, self._names).hexdigest()

    @cached_property
    def unrounded(self) -> TransformerReader[Tensor]:
        """The dequantized weights: the original ones are not known."""
        return _Dequantized(self)

    def verify(self, shard: str) -> None:
        """Does nothing: there are no digests, and each read checks that its file did not change."""

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        tensors = load_stored({name: self._stored[name] for name in names}, device)
        for name, tensor in tensors.items():
            require_finite(tensor, name, self._where)
        return tensors

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        stored = {part: self._stored[f"{name}.{part}"] for part in ("weight", "weight_scale")}
        codes, scale = load_stored(stored, device).values()
        scale = nearest_bf16(scale.float()).reshape(-1, 1)
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise VqError(
                f"`{name}.weight_scale` in {self._where} has values that are not positive numbers: quantize it again."
            )
        if codes.is_floating_point() and bool(torch.isnan(codes.float()).any()):
            raise VqError(
                f"`{name}.weight` in {self._where} has codes that are NaN, which older torch gives for values "
                "above 448: quantize it again with a newer one."
            )
        return Quantized(codes, scale)

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        return self._gains.gain(name, device)

    def scheme_of(self, linear: str) -> QuantScheme:
        return self.scheme

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        return None

    def rotation(self, linear: str) -> int:
        return NONE

    def decided(self, linear: str) -> Mapping[str, JsonValue]:
        return {"method": self._method}


class _Dequantized(Derived):
    """Codes times scales, as weights in full precision."""

    def __init__(self, codes: _StoredCodes) -> None:
        super().__init__(codes)
        self._codes = codes

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        names, weights = list(names), self.topology.weights
        tensors = super().plain((name for name in names if name not in weights), device)
        return {name: tensors[name] if name in tensors else self.linear(weights[name], device) for name in names}

    def linear(self, name: str, device: str = "cpu") -> Tensor:
        return dequantize(self._codes.linear(name, device))


def open_quantized_source(model: str, *, loras: Sequence[str] = (), allow_pth: bool = False) -> QuantizedModel | None:
    """The model `model` as another tool has quantized it; None where it is not quantized, or its codes cannot be kept.

    Raises:
        VqError: there is no such model, a file is missing or damaged, LightX2V has no scheme for its codes, or there
            are `loras`, which cannot be merged into codes.
    """
    paths = transformer_paths(resolve_model(model, only=TRANSFORMER_FILES))
    stored = {name: read_transformer(path, allow_pth=allow_pth) for name, path in paths.items()}
    found = [quantizer_of(part.infos, native=part.native) for part in stored.values()]
    quantizers = {entry[0] for entry in found if entry is not None and entry[0] in IMPORTED}
    if len(quantizers) != 1 or None in found:
        return None
    if loras:
        raise VqError(
            f"{model} is quantized already, and LoRAs are merged before quantization: give the model it was made from."
        )
    (quantizer,) = quantizers
    method = IMPORTED[quantizer]
    components = {name: _StoredCodes(part, method) for name, part in stored.items()}
    first, *others = components.values()
    if any(other.scheme != first.scheme for other in others):
        raise VqError(f"The transformers of {model} have different schemes: quantize both to the same.")
    family_name, family = next((part.family_name, part.family) for part in stored.values())
    return QuantizedModel(
        model=model,
        family_name=family_name,
        family=family,
        scheme=first.scheme.name,
        components=components,
        settings={
            **({"smooth": {"method": method}} if any(part.has_affine_norms for part in components.values()) else {}),
            "quantize": {"scheme": first.scheme.name, "method": method},
        },
        parents={},
    )


def comes_from_elsewhere(checkpoint: ConvertedCheckpoint) -> bool:
    """Whether another tool smoothed the checkpoint or made its codes: then its fingerprint is not the original model's.

    Checkpoints from before smoothing by others was recorded have gains, and nothing that says where these are from.
    """
    settings = checkpoint.artifact.manifest.settings
    smooth = cast(dict[str, JsonValue], settings.get("smooth", {}))
    return (
        checkpoint.is_imported
        or smooth.get("method") in IMPORTED.values()
        or ("smooth" not in settings and bool(settings["gains"]))
    )


def _scheme(stored: StoredTransformer, linears: Iterable[Linear]) -> QuantScheme:
    dtypes: dict[str, str] = {}
    for linear in linears:
        name = f"{linear.name}.weight"
        dtype = stored.tensors[name].info.dtype
        if dtype not in BY_DTYPE:
            raise VqError(
                f"`{name}` in {stored.where} is {dtype}, and LightX2V runs one 8-bit scheme for every linear of every "
                "block: quantize all of them to int8 or e4m3 (without LLMC's ignored_layers)."
            )
        dtypes[dtype] = name
        scale = stored.tensors.get(f"{name}_scale")
        if scale is None:
            raise VqError(f"{stored.where} lacks `{name}_scale`: get the missing shard, or quantize it again.")
        if scale.info.shape not in ((linear.out_features,), (linear.out_features, 1)):
            raise VqError(
                f"`{name}_scale` in {stored.where} is {list(scale.info.shape)}, and one scale per output channel, "
                f"[{linear.out_features}, 1], is needed: quantize it per channel."
            )
    if len(dtypes) > 1:
        raise VqError(f"{stored.where} has codes of both {' and '.join(sorted(dtypes))}: quantize all to one format.")
    return BY_DTYPE[next(iter(dtypes))]
