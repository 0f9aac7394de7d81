"""What one LoRA does to each tensor of a transformer: its keys sorted by tensor, checked, and applied.

A key that matches nothing is named in a warning, as is what is left out because this Wan reads other channels.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lora_delta import METHODS, Method, magnitude_axis, scale_to_magnitude
from vq_core.model.lora_file import Lora
from vq_core.model.lora_keys import KeyTable, LoraPart, block_in, other_part
from vq_core.model.lora_settings import require_alpha
from vq_core.topology import Topology

logger = logging.getLogger(__name__)

Keys = Mapping[LoraPart, str]
MAX_NAMED = 50
MAGNITUDES = (LoraPart.MAGNITUDE, LoraPart.DORA_SCALE)


@dataclass(frozen=True)
class Change:
    """What one LoRA does to one tensor.

    Attributes:
        lora: where its parts lie.
        keys: its parts.
        method: of its factors, if it has any.
        scale: alpha / rank.
        axis: of the channels that DoRA's magnitudes belong to, if it has them.
    """

    lora: Lora
    keys: Keys
    method: Method | None
    scale: float
    axis: int | None

    def apply_to(self, tensor: Tensor) -> None:
        """Make W' of W, which is `tensor`, fp32, in place."""
        strength = self.lora.request.strength
        if self.method:
            factors = {part: self.lora.load(key) for part, key in self.keys.items() if part in self.method.parts}
            tensor += self.method.multiply(factors).mul_(strength * self.scale).reshape(tensor.shape)
        if LoraPart.UP_BIAS in self.keys:
            tensor += self.lora.load(self.keys[LoraPart.UP_BIAS]).mul_(strength * self.scale).reshape(tensor.shape)
        if LoraPart.DIFF in self.keys:
            tensor += self.lora.load(self.keys[LoraPart.DIFF]).mul_(strength).reshape(tensor.shape)
        if self.axis is not None:
            (magnitude,) = (self.keys[part] for part in MAGNITUDES if part in self.keys)
            scale_to_magnitude(tensor, self.lora.load(magnitude), self.axis)


def changes_of(lora: Lora, component: str, table: KeyTable, topology: Topology) -> dict[str, Change]:
    """What `lora` does to `component`, by tensor; its keys that match nothing are named in one warning.

    Raises:
        VqError: no key matches, one may be of two tensors, is of a block that is not there or stands twice, parts are
            missing, shapes do not fit, or the settings are not those of a sum.
    """
    path = lora.request.path
    by_tensor, unmatched = _sorted_by_tensor(lora, component, table)
    settings = lora.settings(component)
    if settings.use_dora and not any(part in keys for keys in by_tensor.values() for part in MAGNITUDES):
        raise VqError(f"{path} was trained with PEFT's use_dora and holds no lora_magnitude_vector: get it whole.")
    for tensor, keys in list(by_tensor.items()):
        if LoraPart.ALPHA in keys and _method(keys) is None:
            unmatched.append(keys.pop(LoraPart.ALPHA))
        if not keys:
            del by_tensor[tensor]
    for module in _other_channels(lora, component, by_tensor, topology):
        for tensor in (f"{module}.weight", f"{module}.bias"):
            by_tensor.pop(tensor, None)
    # The bias of B is scaled as B is, so it needs the rank and the alpha of its pair.
    pairs = {
        tensor: by_tensor.get(f"{tensor.removesuffix('.bias')}.weight", {}) if LoraPart.UP_BIAS in keys else keys
        for tensor, keys in by_tensor.items()
    }
    axes = {
        tensor: _checked(lora, tensor, keys, pairs[tensor], topology.tensors[tensor])
        for tensor, keys in by_tensor.items()
    }
    alphas = _alphas(lora, by_tensor, topology)
    changes = {
        tensor: Change(lora, keys, _method(keys), _scale(lora, pairs[tensor], alphas, settings.alpha), axes[tensor])
        for tensor, keys in by_tensor.items()
    }
    if not changes:
        raise VqError(
            f"{path} does not fit {lora.model}: none of its keys is that of a tensor of {component}, the first is "
            f"`{next(iter(lora.infos), '')}`, so give a LoRA of this architecture."
        )
    if unmatched:
        _tell_unmatched(lora, component, unmatched, topology.num_blocks)
    return changes


def _sorted_by_tensor(lora: Lora, component: str, table: KeyTable) -> tuple[dict[str, dict[LoraPart, str]], list[str]]:
    """Keys of `lora` for `component` by tensor and part, and those that match nothing."""
    path = lora.request.path
    by_tensor: dict[str, dict[LoraPart, str]] = {}
    unmatched: list[str] = []
    for key in lora.keys_for(component):
        targets = table.targets(key)
        if not targets:
            unmatched.append(key)
            continue
        if len(targets) > 1:
            raise VqError(
                f"`{key}` in {path} may stand for {' and for '.join(f'`{it.tensor}`' for it in targets)}: "
                "convert the LoRA to the model's own names."
            )
        (target,) = targets
        keys = by_tensor.setdefault(target.tensor, {})
        if target.part in keys:
            raise _both(path, keys[target.part], key, target.tensor)
        keys[target.part] = key
    return by_tensor, unmatched


def _other_channels(lora: Lora, component: str, by_tensor: Mapping[str, Keys], topology: Topology) -> Iterable[str]:
    """Convolutions that read another number of channels here than where `lora` was trained; each is warned of.

    A LoRA of text to video is used with image to video in this way: its patch embedding alone has no place there.
    """
    for tensor, keys in list(by_tensor.items()):
        shape = topology.tensors[tensor]
        if len(shape) <= 3:
            continue
        kernel, channels = prod(shape[2:]), shape[1]
        delta = _delta_shape(lora, keys)
        if delta and delta[0] == shape[0] and delta[1] % kernel == 0:
            channels = delta[1] // kernel
        if LoraPart.DIFF in keys:
            diff = lora.infos[keys[LoraPart.DIFF]].shape
            channels = diff[1] if len(diff) > 1 and diff == (shape[0], diff[1], *shape[2:]) else channels
        if channels != shape[1]:
            module = tensor.removesuffix(".weight")
            logger.warning(
                "%s: its `%s` reads %d channels and that of %s in %s reads %d, as where a LoRA for text is used with "
                "images, so `%s` is left out and the rest is merged.",
                lora.request.path, module, channels, component, lora.model, shape[1], module,
            )  # fmt: skip
            yield module


def _alphas(lora: Lora, by_tensor: Mapping[str, Keys], topology: Topology) -> dict[str, float]:
    """The alphas of `lora` by key, but for those of factors without a rank, where an alpha means nothing."""
    found: list[str] = []
    for tensor, keys in by_tensor.items():
        if LoraPart.ALPHA in keys and _rank(lora, keys) is not None:
            if prod(lora.infos[keys[LoraPart.ALPHA]].shape) != 1:
                raise _does_not_fit(lora, keys[LoraPart.ALPHA], tensor, topology.tensors[tensor])
            found.append(keys[LoraPart.ALPHA])
    alphas = lora.numbers(found)
    for key, alpha in alphas.items():
        require_alpha(alpha, key, lora.request.path)
    return alphas


def _scale(lora: Lora, keys: Keys, alphas: Mapping[str, float], noted: float | None) -> float:
    """alpha / rank of factors with these `keys`; the alpha that is `noted` is for low-rank pairs without their own."""
    rank = _rank(lora, keys)
    if rank is None:
        return 1.0
    alpha = alphas[keys[LoraPart.ALPHA]] if LoraPart.ALPHA in keys else noted if LoraPart.DOWN in keys else None
    return 1.0 if alpha is None else alpha / rank


def _checked(lora: Lora, tensor: str, keys: Keys, pair: Keys, shape: tuple[int, ...]) -> int | None:
    """The axis of DoRA's magnitudes, once all parts are there and fit `tensor`, which has this `shape`."""
    path = lora.request.path
    if method := _method(keys):
        _require_whole(path, tensor, keys, method)
        _require_shape(lora, tensor, keys, method, shape)
    if LoraPart.UP_BIAS in keys and LoraPart.DOWN not in pair:
        raise VqError(f"`{keys[LoraPart.UP_BIAS]}` in {path} has no low-rank pair beside it: get it whole.")
    for part in (LoraPart.DIFF, LoraPart.UP_BIAS):
        if part in keys and _without_ones(lora.infos[keys[part]].shape) != _without_ones(shape):
            raise _does_not_fit(lora, keys[part], tensor, shape)
    magnitudes = [part for part in MAGNITUDES if part in keys]
    if not magnitudes:
        return None
    key = keys[magnitudes[0]]
    if other := [keys[part] for part in (*magnitudes[1:], LoraPart.DIFF) if part in keys]:
        raise _both(path, key, other[0], tensor)
    if method is None:
        raise VqError(f"`{key}` in {path} has no factors beside it for `{tensor}`: get it whole.")
    if lora.request.strength != 1:
        raise VqError(
            f"`{key}` makes a DoRA of {path}, of which every tool means something else by a strength other than 1, "
            f"and {lora.request.strength:g} is given: leave the strength out."
        )
    axis = magnitude_axis(magnitudes[0], lora.infos[key].shape, shape)
    if axis is None:
        raise _does_not_fit(lora, key, tensor, shape)
    return axis


def _require_whole(path: object, tensor: str, keys: Keys, method: Method) -> None:
    given = [part for part in keys if part in method.parts]
    if other := next((keys[part] for it in METHODS if it is not method for part in keys if part in it.parts), None):
        raise _both(path, keys[given[0]], other, tensor)
    lacking = method.lacks(given)
    if lacking is None:
        raise VqError(
            f"{' and '.join(f'`{keys[part]}`' for part in given)} in {path} are more than {method.name} of `{tensor}` "
            "has: get the LoRA again."
        )
    if lacking:
        raise VqError(
            f"`{keys[given[0]]}` in {path} has no partner ({', '.join(part.value for part in lacking)}) for "
            f"`{tensor}`: get it whole."
        )


def _require_shape(lora: Lora, tensor: str, keys: Keys, method: Method, shape: tuple[int, ...]) -> None:
    delta, expected = _delta_shape(lora, keys), (shape[0], prod(shape[1:]))
    if delta == expected:
        return
    if LoraPart.UP in keys:
        fits_columns = delta is None or delta[1] == expected[1]
        raise _does_not_fit(lora, keys[LoraPart.UP if fits_columns else LoraPart.DOWN], tensor, shape)
    first = next(key for part, key in keys.items() if part in method.parts)
    raise VqError(
        f"{lora.request.path} does not fit {lora.model}: `{first}` and the other factors of {method.name} "
        f"{f'give {list(delta)}' if delta else 'cannot be multiplied'}, and `{tensor}` is {list(shape)}, so give a "
        "LoRA of this model."
    )


def _method(keys: Iterable[LoraPart]) -> Method | None:
    """The method whose factors are among `keys`."""
    keys = frozenset(keys)
    return next((method for method in METHODS if method.parts & keys), None)


def _rank(lora: Lora, keys: Keys) -> int | None:
    """The rank of the factors with these `keys`, which are whole; None where they have none."""
    method = _method(keys)
    return method.rank(_shapes(lora, keys, method)) if method else None


def _shapes(lora: Lora, keys: Keys, method: Method) -> dict[LoraPart, tuple[int, ...]]:
    return {part: lora.infos[key].shape for part, key in keys.items() if part in method.parts}


def _delta_shape(lora: Lora, keys: Keys) -> tuple[int, ...] | None:
    """Shape of ΔW; None where there is no method, a factor is missing, or they cannot be multiplied."""
    method = _method(keys)
    if method is None or method.lacks(part for part in keys if part in method.parts) != []:
        return None
    return method.shape(_shapes(lora, keys, method))


def _both(path: object, key: str, other: str, tensor: str) -> VqError:
    return VqError(f"`{key}` and `{other}` in {path} both change `{tensor}`: keep one of them.")


def _does_not_fit(lora: Lora, key: str, tensor: str, shape: Sequence[int]) -> VqError:
    return VqError(
        f"{lora.request.path} does not fit {lora.model}: its `{key}` is {list(lora.infos[key].shape)} and "
        f"`{tensor}` is {list(shape)}, so give a LoRA of this model."
    )


def _tell_unmatched(lora: Lora, component: str, unmatched: Sequence[str], num_blocks: int) -> None:
    """Name the keys that are not merged in one warning, by pattern, and each of them in the log."""
    path = lora.request.path
    if deeper := [key for key in unmatched if (block_in(key) or 0) >= num_blocks]:
        raise VqError(
            f"{path} does not fit {lora.model}: `{deeper[0]}` is about a block that {component}, with its "
            f"{num_blocks}, does not have, so give a LoRA of this model."
        )
    parts = Counter(part for key in unmatched if (part := other_part(key)))
    others = "".join(f", {count} of them for the {part}" for part, count in parts.items())
    logger.warning(
        "%s: %d of %d keys match nothing in %s and are not merged%s: %s.",
        path, len(unmatched), len(lora.infos), component,
        others, ", ".join(_by_pattern(unmatched)),
    )  # fmt: skip
    for key in unmatched:
        logger.debug("%s: `%s` is not merged.", path, key)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _by_pattern(keys: Iterable[str]) -> list[str]:
    """`keys` with numbers of blocks as N and, where several are then alike, how many; not more than are read."""
    patterns = Counter(re.sub(r"((?:block|layer)s?[._]+)\d+", r"\1N", key) for key in keys)
    named = [f"`{pattern}`" + (f" ({count})" if count > 1 else "") for pattern, count in sorted(patterns.items())]
    return named if len(named) <= MAX_NAMED else [*named[:MAX_NAMED], f"and {len(named) - MAX_NAMED} other names"]
