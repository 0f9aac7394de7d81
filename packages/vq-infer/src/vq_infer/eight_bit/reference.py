"""8-bit attention in plain torch: computes the same as the kernels, for the CPU and for tests."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_infer.eight_bit.operands import BLOCK, KEY_BLOCKS, Operands, key_order, logit_factor, padded, padded_head_dim

WEIGHT_EXPONENT = 8
"""Softmax weights are stored times 2⁸: FP8 E4M3 reaches 448, and its smallest normal number is then 2⁻¹⁴."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √head_dim) v on 8-bit codes; shapes as in `Attention.attend`, the output in q's dtype."""
    return unpack(weigh(quantize(q, k, v), k.shape[1]), q)


def quantize(q: Tensor, k: Tensor, v: Tensor) -> Operands:
    """Codes of q, k and v `[batch, tokens, heads, head_dim]`.

    * k minus its mean over tokens: softmax ignores a constant of all keys (SageAttention, arXiv 2410.02367, eq. 5).
    * q and k rotated by a Hadamard matrix: q·k stays, outlier channels spread over all (QuaRot, arXiv 2404.00456).
    * INT8, half to even, with one scale for every row of q and every `BLOCK` rows of k.
    * v minus its mean over tokens, in FP8 E4M3 with one scale for every channel (SageAttention2, arXiv 2411.10958). The
      mean of v and the mean rounding error are added to the output, so that flat attention has no mean error.
    """
    dim, keys = q.shape[-1], k.shape[1]
    wide = padded_head_dim(dim)
    q, k, v = (F.pad(x.float(), (0, wide - dim)).transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    rotation = hadamard(wide, q.device)
    q = _pad(q @ rotation, padded(q.shape[1]))
    k = _pad((k - k.mean(1, keepdim=True)) @ rotation, padded(keys, KEY_BLOCKS))
    v_mean = v.mean(1, keepdim=True)
    v = v - v_mean
    q_bound = q.abs().amax(2, keepdim=True).clamp(min=1e-20)
    blocks = k.unflatten(1, (-1, BLOCK))
    k_bound = blocks.abs().amax((2, 3), keepdim=True).clamp(min=1e-20)
    v_bound = v.abs().amax(1, keepdim=True).clamp(min=1e-20)
    v_codes = (v / (v_bound / 448)).clamp(-448, 448).to(torch.float8_e4m3fn)
    v_mean = v_mean + (v - v_codes.float() * (v_bound / 448)).mean(1, keepdim=True)
    by_channel = _pad(v_codes.float(), padded(keys, KEY_BLOCKS)).transpose(1, 2)
    ordered = by_channel.unflatten(2, (-1, 16))[..., key_order(q.device)].flatten(2)
    return Operands(
        q=(q * (127 / q_bound)).round().to(torch.int8),
        q_scale=q_bound[..., 0] / 127 * logit_factor(dim, wide),
        k=(blocks * (127 / k_bound)).round().to(torch.int8).flatten(1, 2),
        k_scale=k_bound[..., 0, 0] / 127,
        v=ordered.to(torch.float8_e4m3fn),
        v_scale=v_bound[:, 0] / 448,
        v_mean=v_mean[:, 0],
    )


def weigh(operands: Operands, keys: int) -> Tensor:
    """Softmax and the weighted sum of v, key block by key block: fp32 `[heads, queries, head_dim]`, queries padded.

    The running maximum starts at 0, the mean of every query's logits, as k has mean 0. So the logits of 0 that pad the
    keys never raise it, and each is subtracted from the sum of weights as 2^(0 − maximum).
    """
    heads, rows, dim = operands.q.shape
    device = operands.q.device
    highest = torch.zeros(heads, rows, 1, device=device)
    total = torch.zeros(heads, rows, 1, device=device)
    out = torch.zeros(heads, rows, dim, device=device)
    # Where key 16a + i of the order of keys stands in `operands.v`.
    place = torch.argsort(key_order(device))
    values = operands.v.float().unflatten(2, (-1, 16))[..., place].flatten(2).transpose(1, 2)
    for block in range(operands.k_scale.shape[1]):
        span = slice(block * BLOCK, (block + 1) * BLOCK)
        scale = operands.q_scale[..., None] * operands.k_scale[:, block, None, None]
        logits = (operands.q.float() @ operands.k[:, span].float().transpose(1, 2)) * scale
        risen = torch.maximum(highest, logits.amax(2, keepdim=True))
        shrink = torch.exp2(highest - risen)
        weights = torch.exp2(logits - risen + WEIGHT_EXPONENT)
        total = total * shrink + weights.sum(2, keepdim=True)
        out = out * shrink + weights.to(torch.float8_e4m3fn).float() @ values[:, span]
        highest = risen
    missing = operands.k.shape[1] - keys
    total = total - missing * torch.exp2(WEIGHT_EXPONENT - highest)
    return out / total * operands.v_scale[:, None] + operands.v_mean[:, None]


def unpack(out: Tensor, like: Tensor) -> Tensor:
    """`[heads of all samples, padded queries, head_dim]` in the shape and dtype of `like`, `[batch, queries, …]`."""
    batch, queries, heads, dim = like.shape
    return out[:, :queries, :dim].unflatten(0, (batch, heads)).transpose(1, 2).to(like.dtype).contiguous()


def hadamard(dim: int, device: torch.device) -> Tensor:
    """Sylvester's matrix of ±1, fp32 `[dim, dim]`, `dim` a power of two; its rows are orthogonal, of length √dim."""
    matrix = torch.ones(1, 1, device=device)
    while matrix.shape[0] < dim:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix


def _pad(x: Tensor, tokens: int) -> Tensor:
    return F.pad(x, (0, 0, 0, tokens - x.shape[1]))
