"""Activation quantizers against slow references, one number at a time, and their properties."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.errors import UsageError
from benchsuite.quantizers.formats.activations import (
    ActivationQuantizer,
    KeyValueQuantizer,
    fake_quantize_groups,
    fake_quantize_per_token,
    quantize_per_token,
)


def numbers(seed, *shape, offset=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3 + offset


def slow_per_token(row, bits, clip):
    top = 2 ** (bits - 1) - 1
    scale = max(abs(v) for v in row) * clip / top or 1.0
    return [scale * min(max(round(v / scale), -top - 1), top) for v in row]


def slow_group(values, bits, clip):
    top = 2**bits - 1
    low, high = min(*values, 0.0) * clip, max(*values, 0.0) * clip
    scale = (high - low) / top or 1.0
    zero = round(-low / scale)
    return [scale * (min(max(round(v / scale) + zero, 0), top) - zero) for v in values]


def assert_equal_but_for_ties(result, expected, step):
    """Equal, but for the few values on the edge between two levels in one of both computations."""
    off = (result.double() - torch.tensor(expected, dtype=torch.float64)).abs()
    close = off <= 1e-5
    assert (close | (off <= 1.001 * step + 1e-5)).all()
    assert close.double().mean() > 0.95


@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 8),
    clip=st.sampled_from([1.0, 0.9, 0.5]),
    offset=st.floats(-4, 4),
)
@settings(max_examples=40, deadline=None)
def test_per_token_equals_the_slow_reference(seed, bits, clip, offset):
    x = numbers(seed, 3, 17, offset=offset)
    expected = [slow_per_token(row, bits, clip) for row in x.double().tolist()]
    step = x.abs().max().item() * clip / (2 ** (bits - 1) - 1)
    assert_equal_but_for_ties(fake_quantize_per_token(x, bits, clip), expected, step)


@given(
    seed=st.integers(0, 2**16),
    bits=st.integers(2, 8),
    clip=st.sampled_from([1.0, 0.95, 0.5]),
    offset=st.floats(-4, 4),
    group_size=st.sampled_from([4, 8, 16, 128]),
)
@settings(max_examples=40, deadline=None)
def test_groups_equal_the_slow_reference(seed, bits, clip, offset, group_size):
    x = numbers(seed, 3, 16, offset=offset)
    width = min(group_size, 16)
    rows = x.double().unflatten(-1, (-1, width)).tolist()
    expected = [[v for g in groups for v in slow_group(g, bits, clip)] for groups in rows]
    step = (x.amax() - x.amin() + abs(offset)).item() / (2**bits - 1)
    assert_equal_but_for_ties(fake_quantize_groups(x, bits, group_size, clip), expected, step)


@given(seed=st.integers(0, 2**16), bits=st.integers(2, 8), clip=st.floats(0.5, 1))
@settings(max_examples=40, deadline=None)
def test_codes_stay_in_range_and_unclipped_errors_within_half_a_step(seed, bits, clip):
    x = numbers(seed, 2, 5, 24)
    codes, scales = quantize_per_token(x, bits, clip)
    assert codes.dtype == torch.int8
    assert scales.shape == (2, 5, 1)
    assert codes.min() >= -(2 ** (bits - 1))
    assert codes.max() <= 2 ** (bits - 1) - 1
    inside = x.abs() <= scales * (2 ** (bits - 1) - 1)
    assert (((codes * scales - x).abs() <= 0.501 * scales) | ~inside).all()


@given(seed=st.integers(0, 2**16), bits=st.integers(2, 8), scale=st.sampled_from([2.0**-9, 4.0]))
@settings(max_examples=25, deadline=None)
def test_tokens_are_independent_and_scaling_passes_through(seed, bits, scale):
    x = numbers(seed, 6, 8, offset=1.0)
    for quantize in (
        lambda t: fake_quantize_per_token(t, bits, 0.9),
        lambda t: fake_quantize_groups(t, bits, 4, 0.95),
    ):
        whole = quantize(x)
        assert torch.equal(torch.stack([quantize(row) for row in x]), whole)
        assert torch.equal(quantize(x * scale), whole * scale)


@given(seed=st.integers(0, 2**16), bits=st.integers(2, 8))
@settings(max_examples=25, deadline=None)
def test_rounding_twice_without_clipping_changes_only_float_rounding(seed, bits):
    x = numbers(seed, 4, 16)
    once = fake_quantize_per_token(x, bits)
    torch.testing.assert_close(fake_quantize_per_token(once, bits), once, rtol=1e-5, atol=1e-6)


def test_eight_bits_keep_sign_and_the_largest_value():
    codes, scales = quantize_per_token(torch.tensor([[1.0, -2.0, 0.0, 2.0]]))
    assert codes.tolist() == [[64, -127, 0, 127]]
    assert scales.item() == pytest.approx(2 / 127)


def test_zeros_stay_zeros():
    zeros = torch.zeros(2, 8)
    assert torch.equal(fake_quantize_per_token(zeros, 4, 0.9), zeros)
    assert torch.equal(fake_quantize_groups(zeros, 4, 4, 0.95), zeros)
    assert quantize_per_token(zeros)[1].eq(1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_is_kept(dtype):
    x = numbers(0, 2, 8).to(dtype)
    assert fake_quantize_per_token(x, 4).dtype == dtype
    assert fake_quantize_groups(x, 4, 8).dtype == dtype


def test_groups_that_do_not_fit_are_a_usage_error():
    with pytest.raises(UsageError, match="192 channels do not divide into groups of 128"):
        fake_quantize_groups(torch.zeros(1, 192), 4, 128)


def test_the_modules_are_the_functions_and_survive_a_deep_copy():
    x = numbers(0, 2, 3, 32, offset=1.0)
    activation = copy.deepcopy(ActivationQuantizer(4, 0.9))
    assert torch.equal(activation(x), fake_quantize_per_token(x, 4, 0.9))
    key_value = copy.deepcopy(KeyValueQuantizer(4, 16, 0.95))
    assert torch.equal(key_value(x), fake_quantize_groups(x, 4, 16, 0.95))
    assert repr(activation) == "ActivationQuantizer(bits=4, clip_ratio=0.9)"
    assert repr(key_value) == "KeyValueQuantizer(bits=4, group_size=16, clip_ratio=0.95)"
