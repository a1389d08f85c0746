"""SparseGPT's CUDA kernel against its plain twin: equal bits.

Needs a CUDA GPU, or Triton's interpreter: TRITON_INTERPRET=1 with triton installed.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from benchsuite.quantizers import sparsegpt
from benchsuite.quantizers.walking.hessian import invert_upper
from tests.quantizers.test_gptq_kernel import DEVICE, columns_first, problem

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)


@pytest.mark.parametrize("rows", [1, 33, 5] if INTERPRETED else [1, 33, 700])
@pytest.mark.parametrize("columns", [4, 40, 128])
@pytest.mark.parametrize("ties", [False, True])
def test_one_block_leaves_equal_bits(rows, columns, ties):
    from benchsuite.quantizers import sparsegpt_kernel

    weight, factor = problem(rows, columns)
    upper = invert_upper(factor)
    if ties:
        weight, upper = weight.sign(), torch.eye(columns, device=DEVICE)
    # A block is some lines of what holds more, as `prune` hands it over.
    several, one = (torch.cat([columns_first(weight)] * 2) for _ in range(2))
    fused = sparsegpt_kernel.prune_block(several[columns:], upper)
    plain = sparsegpt.prune_block(one[columns:], upper)
    for found, expected in zip(fused, plain, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(several, one)
    assert 2 * plain[0].sum() == plain[0].numel()
