"""Packing, and the layer that computes with packed weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from benchsuite.errors import UsageError
from benchsuite.quantizers import kernels
from benchsuite.quantizers.formats.packing import pack, packed_width, unpack
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import (
    QuantizedLinear,
    model_digest,
    quantized_linear,
    stored_bytes,
    widened_bytes,
)


def random_codes(bits: int, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, (rows, columns), generator=generator, dtype=torch.uint8)


def layer(bits=4, group_size=32, sym=True, rows=16, columns=64, dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(5)
    linear = torch.nn.Linear(columns, rows, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    grid = QuantizationGrid(bits, group_size, sym)
    return linear, quantized_linear(linear, grid, *grid.round_weight(linear.weight))


@given(
    bits=st.integers(2, 8),
    rows=st.integers(1, 5),
    columns=st.integers(1, 40),
    seed=st.integers(0, 2**16),
)
def test_packing_is_lossless_and_dense(bits, rows, columns, seed):
    codes = random_codes(bits, rows, columns, seed)
    packed = pack(codes, bits)
    assert packed.shape == (rows, packed_width(columns, bits))
    assert torch.equal(unpack(packed, bits, columns), codes)


@given(bits=st.integers(2, 8), seed=st.integers(0, 2**16))
def test_packing_is_one_little_endian_bit_stream(bits, seed):
    codes = random_codes(bits, 1, 16, seed)
    number = sum(int(code) << (bits * i) for i, code in enumerate(codes[0]))
    assert bytes(pack(codes, bits)[0].tolist()) == number.to_bytes(2 * bits, "little")


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("sym", [True, False])
def test_dequantized_weight_is_scale_times_code_minus_zero(bits, sym):
    linear, quantized = layer(bits, sym=sym)
    for column in (0, 31, 32, 63):
        group = column // 32
        expected = quantized.scales[:, group].float() * (
            quantized.codes[:, column].float() - quantized.zeros[:, group].float()
        )
        assert torch.equal(quantized.dequantize()[:, column], expected)
    step = quantized.scales.float().amax(1, keepdim=True)
    # Half a step, and the float16 rounding of the scale times the largest code.
    allowed = step * (0.51 + 2**bits * 2**-12)
    assert ((quantized.dequantize() - linear.weight).abs() <= allowed).all()


def test_g_idx_gives_each_column_its_group():
    codes, g_idx = random_codes(4, 3, 8), torch.tensor([1, 0, 1, 0, 0, 1, 0, 1])
    scales = torch.tensor([[1.0, 10.0]]).expand(3, 2).contiguous()
    quantized = QuantizedLinear(codes, scales, None, bits=4, group_size=4, g_idx=g_idx)
    expected = (codes.float() - 8) * torch.tensor([1.0, 10.0])[g_idx]
    assert torch.equal(quantized.dequantize(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["dequantize", "held"])
def test_forward_is_the_linear_of_the_dequantized_weight(dtype, kernel):
    linear, quantized = layer(dtype=dtype)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = F.linear(x, quantized.dequantize(), linear.bias)
    assert torch.equal(quantized.use(kernel)(x), expected)


@pytest.mark.parametrize("sym", [True, False])
def test_pytorch_s_int4_kernel_agrees_with_the_dequantized_product(sym):
    _, quantized = layer(sym=sym, dtype=torch.bfloat16)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    expected = F.linear(x.float(), quantized.dequantize(torch.float32), quantized.bias.float())
    with using_kernel(quantized, "int4_cpu"):
        result = quantized(x)
    assert quantized.kernel == "dequantize"
    torch.testing.assert_close(result.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("changes", [{"bits": 3}, {"group_size": 16}, {"rows": 8}])
def test_a_kernel_that_cannot_run_the_layer_says_so(changes):
    _, quantized = layer(**changes)
    with pytest.raises(UsageError, match="int4"):
        quantized.use("int4_cpu")
    with pytest.raises(UsageError, match="unknown kernel"):
        quantized.use("fast")


def test_packed_bytes_are_those_of_the_buffers():
    _, quantized = layer(bits=4, group_size=32, rows=16, columns=64)
    assert quantized.packed_bytes == 16 * 64 // 2 + 16 * 2 * 2
    _, asymmetric = layer(bits=4, group_size=32, rows=16, columns=64, sym=False)
    assert asymmetric.packed_bytes == quantized.packed_bytes + 2 * 16 // 2
    assert stored_bytes(quantized) == quantized.packed_bytes + 16 * 4


def test_holding_the_weight_does_not_count_as_stored():
    _, quantized = layer()
    before = stored_bytes(quantized)
    with using_kernel(quantized, "held"):
        assert stored_bytes(quantized) == before


def test_weights_are_held_only_where_all_of_them_have_room(monkeypatch):
    _, quantized = layer(dtype=torch.bfloat16)
    unpacked = 2 * quantized.in_features * quantized.out_features
    x = torch.randn(2, 64, dtype=torch.bfloat16)
    expected = quantized(x)
    for room, kernel in ((2 * unpacked, "held"), (unpacked, "dequantize")):
        monkeypatch.setattr(kernels, "available_bytes", lambda device, room=room: room)
        with using_kernel(quantized, "held"):
            assert quantized.kernel == kernel
            assert torch.equal(quantized(x), expected)
            assert (quantized._operand is None) == (kernel == "dequantize")


def test_widened_bytes_are_those_above_the_stored_dtype():
    model = torch.nn.ModuleDict({"kept": torch.nn.Linear(8, 4), "packed": torch.nn.Linear(8, 2)})
    model.register_buffer("counts", torch.zeros(3, dtype=torch.int64))
    model["tied"] = model["kept"]
    assert widened_bytes(model, "bfloat16") == 2 * (8 * 4 + 4 + 8 * 2 + 2)
    assert widened_bytes(model, "float32") == 0
    assert widened_bytes(model.half(), "float32") == 0


def test_digest_changes_with_each_part_and_with_nothing_else():
    codes, scales = random_codes(4, 8, 16), torch.ones(8, 2).half()
    zeros, g_idx = random_codes(4, 8, 2, seed=1), torch.arange(16) // 8

    def digest(codes=codes, scales=scales, zeros=zeros, g_idx=g_idx):
        return QuantizedLinear(
            codes, scales, zeros, bits=4, group_size=8, g_idx=g_idx, bias=torch.rand(8)
        ).digest

    def poked(tensor):
        other = tensor.clone()
        other[0, 0] = (other[0, 0] + 1) % 16
        return other

    assert digest() == digest()
    variants = {
        digest(),
        digest(codes=poked(codes)),
        digest(scales=poked(scales)),
        digest(zeros=poked(zeros)),
        digest(g_idx=g_idx.flip(0)),
        digest(zeros=None),
    }
    assert len(variants) == 6


@pytest.mark.parametrize("kernel", ["dequantize", "held"])
def test_casting_a_model_keeps_the_stored_scales(kernel):
    _, quantized = layer(dtype=torch.float16)
    before, scales = quantized.digest, quantized.scales.clone()
    quantized.use(kernel).bfloat16()
    assert quantized.scales.dtype == torch.float16
    assert torch.equal(quantized.scales, scales)
    assert quantized.digest == before
    assert quantized.bias.dtype == torch.bfloat16
    assert quantized(torch.ones(1, 64).bfloat16()).dtype == torch.bfloat16


def test_model_digest_covers_names():
    _, quantized = layer()
    one = torch.nn.ModuleDict({"a": quantized})
    other = torch.nn.ModuleDict({"b": quantized})
    assert model_digest(one) != model_digest(other)


def test_generating_takes_the_integer_kernel_where_there_is_one():
    fitting = layer(dtype=torch.bfloat16)[1]
    model = torch.nn.ModuleList([fitting, layer(bits=3, dtype=torch.bfloat16)[1], layer()[1]])
    with using_kernel(model, "few_tokens"):
        assert [linear.kernel for linear in model] == ["int4_cpu", "dequantize", "dequantize"]
    assert {linear.kernel for linear in model} == {"dequantize"}
