import torch

from vq_infer.attention import sdpa


def test_it_runs_everywhere_on_strided_inputs_of_two_lengths() -> None:
    assert sdpa.unavailable(torch.device("cpu")) is None
    fused = torch.randn(2, 9, 3, 4, 16, dtype=torch.float64)
    q, k, v = fused[:, :5, 0], fused[:, :, 1], fused[:, :, 2]
    weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) / 4, dim=-1)
    torch.testing.assert_close(sdpa.attend(q, k, v), torch.einsum("bhqk,bkhd->bqhd", weights, v))
