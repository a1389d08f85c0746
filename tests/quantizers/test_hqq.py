"""HQQ against its formulas, against the reference package, and what must hold on any model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint, hqq
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linears, stored_bytes


def heavy_tailed(seed=0, rows=64, columns=256, spread=0.02):
    """A weight with Laplace-like tails, as trained weights have."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    return spread * normal * torch.rand(rows, columns, generator=generator).add(0.2).reciprocal()


def decoded(codes, scales, zeros, group_size):
    groups = codes.float().reshape(-1, group_size) - zeros.float().reshape(-1, 1)
    return (groups * scales.float().reshape(-1, 1)).reshape(codes.shape)


@given(
    x=st.floats(-10, 10, allow_subnormal=False),
    beta=st.floats(0.5, 50),
    norm=st.sampled_from([0.5, 0.7, 1.0]),
)
@settings(deadline=None)
def test_shrink_is_the_formula(x, beta, norm):
    got = hqq.shrink(torch.tensor([x], dtype=torch.float64), beta, norm).item()
    sign = (x > 0) - (x < 0)
    expected = 0.0 if x == 0 else sign * max(abs(x) - abs(x) ** (norm - 1) / beta, 0.0)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_one_iteration_by_hand():
    row = torch.tensor([[-1.0, 0.0, 0.25, 2.0]])
    scale, zero = hqq.range_grid(row, 3, torch.float16)
    assert (scale.item(), zero.item()) == (1.0, 1.0)
    # Codes 0, 1, 1, 3; errors 0, 0, .25, 0. The threshold .25^-.3 / 10 = .1516 leaves .0984 of it.
    kept = 0.25 - 0.25**-0.3 / 10
    expected = (1 + 1 + (1 - (0.25 - kept)) + 1) / 4
    zero, _ = hqq.fit_zeros(row, scale, zero, 3, hqq.Solver(iterations=1))
    assert zero.item() == pytest.approx(expected)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("group_size", [64, 128, -1])
def test_the_p_norm_of_the_error_is_below_rounding_s(bits, group_size):
    weight = heavy_tailed()
    codes, scales, zeros, _ = hqq.round_weight(weight, bits, group_size)
    width = 256 if group_size == -1 else group_size
    error = (weight - decoded(codes, scales, zeros, width)).abs()
    grid = QuantizationGrid(bits, group_size, sym=False)
    plain_codes, plain_scales, plain_zeros = grid.round_weight(weight)
    plain = (weight - decoded(plain_codes, plain_scales, plain_zeros, width)).abs()
    # At 8 bits a step is so small that its codes cannot do better than the nearest ones.
    allowed = 1.0 if bits < 8 else 1.01
    assert error.pow(0.7).mean() < allowed * plain.pow(0.7).mean()
    assert error.mean() < allowed * plain.mean()


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("group_size", [64, 128])
def test_parity_with_the_reference_package(bits, group_size):
    reference = pytest.importorskip("hqq.core.quantize")
    weight = heavy_tailed(seed=bits)
    packed, meta = reference.Quantizer.quantize(
        weight,
        nbits=bits,
        group_size=group_size,
        axis=1,
        round_zero=bits == 4,  # as its BaseQuantizeConfig sets it
        bitpack=False,
        device="cpu",
    )
    meta["compute_dtype"] = torch.float32
    theirs = reference.Quantizer.dequantize(packed, meta)
    codes, scales, zeros, _ = hqq.round_weight(weight, bits, group_size)
    ours = decoded(codes, scales, zeros, group_size)
    # Half precision moves an 8-bit zero point by up to 1/16 of a step, a 4-bit one by 1/256.
    same = (codes.reshape(-1, group_size) == packed).float().mean()
    assert same > (0.995 if bits < 8 else 0.95)
    assert ((codes.reshape(-1, group_size) - packed).abs() <= 1).all()
    for norm in (0.7, 1, 2):
        ours_off, their_off = ((weight - w).abs().pow(norm).mean() for w in (ours, theirs))
        assert ours_off.item() == pytest.approx(their_off.item(), rel=0.01)
    # With scales and zeros stored in float32 as there, only ties of the last bit differ.
    codes, scales, zeros, _ = hqq.round_weight(weight, bits, group_size, None, torch.float32)
    assert (codes.reshape(-1, group_size) == packed).float().mean() > 0.9999
    torch.testing.assert_close(zeros.reshape(-1, 1), meta["zero"], rtol=1e-3, atol=1e-3)


def test_constant_and_zero_groups_are_exact():
    weight = torch.zeros(2, 128)
    weight[0, :64], weight[1] = 0.5, torch.linspace(-1, 1, 128)
    codes, scales, zeros, _ = hqq.round_weight(weight, 4, 64)
    back = decoded(codes, scales, zeros, 64)
    torch.testing.assert_close(back[0], weight[0], rtol=1e-3, atol=1e-6)
    assert torch.isfinite(back).all()


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
def test_every_family_is_quantized_well(family, make_model, tokens):
    model, reference = make_model(family), make_model(family)
    names = [name for name, _ in architecture_of(reference).named_linears(reference)]
    result = hqq.quantize(model, bits=8)
    assert [layer.name for layer in result.layers] == names
    assert all(1 < layer.details["iterations"] <= 20 for layer in result.layers)
    assert all(layer.error is None for layer in result.layers)
    with torch.no_grad():
        goal, got = reference(input_ids=tokens).logits, model(input_ids=tokens).logits
    assert (got - goal).norm() < 0.03 * goal.norm()


def test_given_tensors_are_never_written_and_the_result_is_reproducible(make_model):
    model = make_model("opt")
    given = {name: (p, p.clone()) for name, p in model.named_parameters()}
    first = hqq.quantize(model).weights_sha256
    assert all(torch.equal(p, copy) for p, copy in given.values())
    assert hqq.quantize(make_model("opt")).weights_sha256 == first
    assert hqq.quantize(make_model("opt"), beta=1000.0).weights_sha256 != first


def test_zeros_count_in_the_size_and_keep_their_dtype(make_model):
    model = make_model(dtype=torch.bfloat16)
    n_weights = sum(m.weight.numel() for _, m in architecture_of(model).named_linears(model))
    result = hqq.quantize(model)
    saved = result.size_before_bytes - result.size_after_bytes
    assert saved == n_weights * 2 - n_weights // 2 - n_weights // 64 * 4
    before = {n: m.dequantize(torch.float64) for n, m in quantized_linears(model).items()}
    model.float()
    for name, linear in quantized_linears(model).items():
        assert linear.free_zeros.dtype == torch.float16
        assert torch.equal(linear.dequantize(torch.float64), before[name])
    assert stored_bytes(model) > result.size_after_bytes


def test_pytorch_s_int4_kernel_takes_fractional_zeros(make_model):
    model = make_model()
    hqq.quantize(model)
    linear = model.model.layers[0].mlp.up_proj
    inputs = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    expected = linear(inputs)
    torch.testing.assert_close(linear.use("int4_cpu")(inputs), expected, rtol=1e-3, atol=1e-4)


def test_a_narrower_last_group_is_like_a_weight_of_its_own():
    weight = torch.randn(8, 160, generator=torch.Generator().manual_seed(0))
    together = hqq.round_weight(weight, 4, 64)
    apart = [hqq.round_weight(part, 4, 64) for part in (weight[:, :128], weight[:, 128:])]
    for place, parts in enumerate(zip(*(each[:3] for each in apart), strict=True)):
        assert torch.equal(together[place], torch.cat(parts, 1))
    assert together[1].shape == (8, 3)


def test_what_cannot_be_done_is_a_usage_error(make_model, tmp_path):
    with pytest.raises(UsageError, match="norm <= 1"):
        hqq.Solver(norm=1.5)
    model = make_model()
    hqq.quantize(model)
    assert not any(m.sym for m in quantized_linears(model).values())
    with pytest.raises(UsageError, match="freshly leased"):
        hqq.quantize(model)
    with pytest.raises(UsageError, match="no fractional zero points"):
        checkpoint.save(model, tmp_path)


def test_free_zeros_are_part_of_the_digest():
    codes, scales = torch.zeros(1, 8, dtype=torch.uint8), torch.ones(1, 1)
    layers = [
        QuantizedLinear(
            codes, scales, torch.full((1, 1), zero), bits=4, group_size=8, free_zeros=True
        )
        for zero in (7.5, 7.5, 7.25)
    ]
    digests = [layer.digest for layer in layers]
    assert digests[0] == digests[1] != digests[2]
