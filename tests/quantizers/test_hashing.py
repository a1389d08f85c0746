"""Hashing tensors: the bytes are the values', whatever device and layout they come in."""

import hashlib

import numpy as np
import pytest
import torch

from benchsuite.quantizers.hashing import SLICE_BYTES, hash_tensor

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def hashed(*tensors, dtype=None):
    sha = hashlib.sha256()
    for tensor in tensors:
        hash_tensor(sha, tensor, dtype)
    return sha.hexdigest()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shape", [(), (0, 3), (1,), (7, 5), (3, SLICE_BYTES // 4 + 1)], ids=lambda s: f"shape{s}"
)
def test_the_bytes_are_those_of_the_values_in_rows(device, shape):
    values = np.random.default_rng(0).normal(size=shape).astype("<f4")
    expected = hashlib.sha256(values.tobytes()).hexdigest()
    assert hashed(torch.tensor(values).to(device)) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_the_layout_in_memory_does_not_matter_and_several_follow_each_other(device):
    values = torch.arange(6 * 4, dtype=torch.uint8).view(6, 4).to(device)
    expected = hashlib.sha256(bytes(range(24)) + values.t().cpu().numpy().tobytes()).hexdigest()
    assert hashed(values, values.t()) == expected
    assert hashed(values, values) != expected


@pytest.mark.parametrize("device", DEVICES)
def test_values_can_be_hashed_as_a_wider_type(device):
    values = torch.randn(300, 17, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = hashlib.sha256(values.float().numpy().tobytes()).hexdigest()
    assert hashed(values.to(device), dtype=torch.float32) == expected
