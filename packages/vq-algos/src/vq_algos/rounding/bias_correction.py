"""Bias correction: the bias takes back what quantization adds to a linear's output on average.

Δb = Σ_t w_t (x_t·Wᵀ − x̂_t·Ŵᵀ) / Σ_t w_t (Nagel et al., 2019, arXiv 1906.04721, section 4.2, with the mean over sampled
tokens; the error of quantized activations counts too). The output is linear in the inputs, so their means suffice.
"""

from torch import Tensor

from vq_algos.layer.inputs import Sampled


def bias_shift(weight: Tensor, dequantized: Tensor, fit: Sampled) -> Tensor:
    """Δb fp32 `[out]` for W = `weight` and Ŵ = `dequantized`, both fp32 `[out, in]`, on the tokens `fit`.

    As W·mean(x − x̂) + (W − Ŵ)·mean(x̂), a sum of small terms, not a difference of large ones.
    """
    share = fit.weight / fit.weight.sum()
    lost = share @ (fit.x - fit.x_hat)
    return weight @ lost + (weight - dequantized) @ (share @ fit.x_hat)
