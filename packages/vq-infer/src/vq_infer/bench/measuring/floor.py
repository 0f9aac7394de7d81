"""The floor of a block: its operations and bytes by kind, and their time at the measured ceilings.

The bytes of a kind are what one pass must read and write once, in the format at hand. That is the best that kernels
between matrix products can do; what stays inside one kernel, such as softmax, is not counted.
"""

from dataclasses import dataclass

from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.models.workload import Workload


@dataclass(frozen=True)
class Cost:
    """What one kind of work takes in one block, in one pass.

    Attributes:
        flops: operations; a multiplication with its addition counts as 2.
        bytes: read and written.
        multiplies: key of the rate in `Ceilings.matmul` that bounds it.
    """

    flops: float
    bytes: float
    multiplies: str = "plain"

    def seconds(self, ceilings: Ceilings) -> float:
        """The longer of computing and moving, at the ceilings."""
        return max(self.flops / ceilings.rate(self.multiplies), self.bytes / ceilings.copy)


def block_costs(workload: Workload, linears: str, attention: str, value_bytes: int) -> dict[Kind, Cost]:
    """Costs of one block by kind.

    `linears` is `plain`, `int8` or `fp8`; `attention` is `plain` or `8-bit`; `value_bytes` is the size of a value that
    is not quantized: 2 in bfloat16, 4 in fp32 on the CPU.
    """
    tokens, dim, ffn = workload.tokens, workload.dim, int(workload.config["ffn_dim"])
    context = sum(workload.context_tokens)
    sources = sum(count > 0 for count in workload.context_tokens)
    quantized = linears != "plain"
    code = 1 if quantized else value_bytes  # of a linear's operands
    value, row = value_bytes, tokens * dim
    costs = {
        Kind.LINEAR_ATTENTION: Cost(12 * row * dim, 6 * dim * dim * code + row * (4 * code + 6 * value), linears),
        Kind.LINEAR_FFN: Cost(4 * row * ffn, 2 * dim * ffn * code + (row + tokens * ffn) * (code + value), linears),
        Kind.LINEAR_CONTEXT: Cost(
            4 * context * dim * dim,
            (4 if context > workload.context_tokens[0] else 2) * dim * dim * code + context * dim * (code + 2 * value),
            linears,
        ),
        Kind.SELF_ATTENTION: Cost(4 * tokens * row, 4 * row * value, "fp8" if attention == "8-bit" else "plain"),
        Kind.CROSS_ATTENTION: Cost(4 * context * row, 2 * (row + context * dim) * value),
        # Three norms, and before each a residual: two terms are read, the sum and the codes are written.
        Kind.NORM: Cost(0, 3 * row * (code + 3 * value)),
        # Queries and keys of self-attention, queries of cross-attention.
        Kind.ROPE: Cost(0, 3 * row * 2 * value),
        Kind.GELU: Cost(0, tokens * ffn * (code + value)),
    }
    if quantized:  # the output of self-attention, and the sum of those for text and image
        costs[Kind.QUANTIZE] = Cost(0, row * (2 * code + (1 + sources) * value))
    return costs
