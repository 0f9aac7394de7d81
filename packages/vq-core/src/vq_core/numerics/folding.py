"""Exact folding of a smoothing vector into the weights around a group's input.

With gain g = 1/s `[in]`: X' = X·g and W' = W / g, so that X'W'ᵀ = XWᵀ. The producer of X absorbs g:

* an affine norm: weight·g and bias·g;
* linears: row k of the weight and element k of the bias, times g_k;
* a modulated norm, LN(x)·(1 + a + p) + c + d, with a and c of its block's table, p and d of a projection that all
  blocks share: one g for all blocks goes into both, because (1 + a + p)·g = 1 + [(1 + a)·g − 1] + p·g. Another g for
  each block cannot go anywhere, so it is stored and multiplies the output.

The gain is the primary quantity, not s: it is what a runtime multiplies by, in bfloat16, so it is chosen as a bfloat16
value and the weights are divided by exactly that.
"""

from collections.abc import Mapping, MutableMapping

from torch import Tensor

from vq_core.errors import VqError
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, ProjectionSink


def fold_group(tensors: MutableMapping[str, Tensor], group: Group, gain: Tensor) -> None:
    """Fold `gain` `[in]` of `group` into those of `tensors` (by name) that it touches; these take the gain's dtype.

    `tensors` may hold a part of the model, such as one block: every tensor is changed by its own factor alone, so the
    parts can be folded in any order and on any machine. The part that is to hold the gain of a modulated norm holds
    ones under its name before.

    Raises:
        VqError: the group has no sink.
    """
    if isinstance(group.sink, ProjectionSink):
        _fold_across(tensors, group.sink, gain)
    elif group.sink is None:
        raise VqError(
            f"the input of {', '.join(group.reads)} cannot be smoothed exactly: leave group {group.name} out."
        )
    factors = _row_factors(group, gain)
    for name, factor in factors.items():
        if name in tensors:
            rows = tensors[name]
            tensors[name] = rows.to(gain.dtype) * factor.reshape(-1, *[1] * (rows.ndim - 1))
    for linear in group.reads:
        name = f"{linear}.weight"
        if name in tensors:
            tensors[name] = tensors[name].to(gain.dtype) / gain


def _fold_across(tensors: MutableMapping[str, Tensor], sink: ProjectionSink, gain: Tensor) -> None:
    for name in sink.tables:
        if name in tensors:
            rows = tensors[name].to(gain.dtype, copy=True)
            rows[:, sink.scale] = (1 + rows[:, sink.scale]) * gain - 1
            rows[:, sink.shift] *= gain
            tensors[name] = rows
    for name in (f"{sink.projection}.weight", f"{sink.projection}.bias"):
        if name in tensors:
            parts = tensors[name].to(gain.dtype, copy=True).unflatten(0, (-1, len(gain)))
            for part in (sink.scale, sink.shift):
                parts[part] *= gain.reshape(-1, *[1] * (parts.ndim - 2))
            tensors[name] = parts.flatten(0, 1)


def _row_factors(group: Group, gain: Tensor) -> Mapping[str, Tensor]:
    match group.sink:
        case NormSink(norm):
            producers: tuple[str, ...] = (norm,)
        case LinearSink(linears):
            producers = linears
        case ModulationSink(name):
            return {name: gain}
        case ProjectionSink() | None:
            return {}
    return {f"{producer}.{part}": gain for producer in producers for part in ("weight", "bias")}
