"""The fused operations on CUDA."""

from vq_infer.fused.gated_sum_triton import gated_sum
from vq_infer.fused.norm_quantize_triton import norm_quantize
from vq_infer.fused.norm_rope_triton import norm_rope
from vq_infer.fused.row_quantize_triton import gelu_quantize, sum_quantize


class TritonOps:
    """One Triton kernel each."""

    NAME = "fused Triton kernels between products"
    norm_quantize = staticmethod(norm_quantize)
    sum_quantize = staticmethod(sum_quantize)
    gelu_quantize = staticmethod(gelu_quantize)
    norm_rope = staticmethod(norm_rope)
    gated_sum = staticmethod(gated_sum)
