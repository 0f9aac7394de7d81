"""Distance of a latent, or of a transformer's prediction, from full precision's."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LatentError(NamedTuple):
    """Of a tensor x against its exact twin.

    Attributes:
        relative_error: ‖x − exact‖ / ‖exact‖.
        cosine: ⟨x, exact⟩ / (‖x‖ ‖exact‖).
    """

    relative_error: float
    cosine: float


def latent_error(x: Tensor, exact: Tensor) -> LatentError:
    """Relative error and cosine over all elements of `x` and `exact`, of one shape, in fp64.

    Two zeros differ by nothing and have cosine 1; otherwise NaN and infinities of `x` come out as NaN.
    """
    ours, theirs = x.double().flatten(), exact.double().flatten()
    if torch.equal(ours, theirs):
        return LatentError(0.0, 1.0)
    error = torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs)
    return LatentError(error.item(), F.cosine_similarity(ours, theirs, dim=0).item())
