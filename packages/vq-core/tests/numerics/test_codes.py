"""Codes, all of them, against torch's own conversion."""

import torch

from vq_core.numerics.codes import codes_as_fp32


def test_every_code_is_what_torch_makes_of_it() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    e4m3 = codes.view(torch.float8_e4m3fn)[codes & 0x7F != 0x7F]  # all but the two that are NaN
    assert torch.equal(codes_as_fp32(e4m3).view(torch.int32), e4m3.float().view(torch.int32))
    assert torch.equal(codes_as_fp32(e4m3.reshape(2, 127)[:, 3:9]), e4m3.reshape(2, 127)[:, 3:9].float())
    assert torch.equal(codes_as_fp32(codes.view(torch.int8)), codes.view(torch.int8).float())
