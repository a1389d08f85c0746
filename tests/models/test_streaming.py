"""Blocks of a streamed model that leave a GPU: their bits arrive in host memory."""

import pytest
import torch
from torch import nn

from benchsuite.models.replicas import replica
from benchsuite.models.streaming import STAGING_BYTES, _Leaving


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [5, STAGING_BYTES // 2, STAGING_BYTES // 2 + 3, STAGING_BYTES])
def test_a_block_that_leaves_has_its_bits_in_host_memory(size):
    gpu = torch.device("cuda")
    block = nn.Module()
    block.weight = nn.Parameter(torch.randn(size, device=gpu).half(), requires_grad=False)
    block.across = nn.Parameter(torch.randn(64, 32, device=gpu).t(), requires_grad=False)
    block.single = nn.Parameter(torch.randn((), device=gpu), requires_grad=False)
    expected = {name: tensor.cpu() for name, tensor in block.named_parameters()}
    to = _Leaving(torch.device("cpu"))
    away = replica(block, to)
    to.copy(torch.cuda.Stream(), torch.cuda.current_stream().record_event())
    for name, tensor in away.named_parameters():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, expected[name])
