"""GPTQ on FP4 grids: the paper's loop in plain form, its layers, MR-GPTQ's rotations."""

import pytest
import torch

from benchsuite.errors import UsageError
from benchsuite.quantizers import checkpoint, fp4, fp4_gptq
from benchsuite.quantizers.formats.fp4_grid import FORMATS, round_e2m1
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear
from benchsuite.quantizers.gptq import invert_panels, round_columns
from benchsuite.quantizers.linear import model_digest, quantized_linears
from benchsuite.quantizers.registry import FP4_GPTQ, apply
from tests.quantizers.conftest import build, logits

BOTH = list(FORMATS)


def plain(weight, hessian, format, g):
    """GPTQ as the paper writes it, in float64: one column, then all later ones, no blocks."""
    work, found = weight.double().clone(), torch.empty_like(weight, dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian.double()), upper=True)
    scales = None
    for i in range(weight.shape[1]):
        if i % format.group_size == 0:
            group = work[:, i : i + format.group_size]
            scales = format.scales(format.scale_bytes(group.abs().amax(1), g), g).double()
        found[:, i] = round_e2m1(work[:, i] / scales) * scales
        error = (work[:, i] - found[:, i]) / upper[i, i]
        work[:, i + 1 :] -= error[:, None] * upper[i, i + 1 :]
    return found


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("columns", [96, 200])
def test_the_loop_is_the_paper_s(name, columns):
    generator = torch.Generator().manual_seed(0)
    format, weight = FORMATS[name], torch.randn(24, columns, generator=generator).double()
    inputs = torch.randn(400, columns, generator=generator).double()
    inputs += inputs[:, :1]  # columns that say something of each other
    hessian = inputs.mT @ inputs / 200
    g = format.global_scale(weight.abs().amax().reshape(1))
    rows = None if g is None else g.expand(24)
    factor = torch.linalg.cholesky(hessian.flip(0, 1)).flip(0, 1)  # V V^T = H, V upper
    panels = invert_panels(factor, format.group_size)
    grid = fp4_gptq.Fp4Grid(format, rows)
    work = weight.mT.contiguous().clone()
    rounded = round_columns(work, factor, panels, grid, None, False, fp4_gptq.quantize_block)
    numbers = (rounded.codes.double() - 12) * rounded.scales.repeat_interleave(
        format.group_size, 1
    )[:, :columns]
    expected = plain(weight, hessian, format, g)
    assert (numbers != expected).double().mean() < 0.01  # ties of the last bit
    nearest = format.rounded(weight, g)

    def loss(made):
        return torch.trace((weight - made) @ hessian @ (weight - made).mT)

    assert loss(numbers) == pytest.approx(loss(expected).item(), rel=0.01)
    assert loss(numbers) < 0.8 * loss(nearest)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("activations", [False, True])
def test_layers_hold_what_the_loop_found_and_are_nearer_than_rounding(name, activations, tokens):
    model, other = build(), build()
    result = fp4_gptq.quantize(model, tokens, format=name, activations=activations)
    assert result.latency_simulated == activations
    fp4.quantize(other, tokens, format=name, activations=activations)
    original = build()
    for path, layer in list(quantized_linears(model).items())[:4]:  # of one input: the first block
        assert isinstance(layer, Fp4Linear)
        nearest = quantized_linears(other)[path]
        if layer.global_scale is not None:
            assert torch.equal(layer.global_scale, nearest.global_scale)
        weight = original.get_submodule(path).weight
        further = (layer.dequantize() - weight).norm() / (nearest.dequantize() - weight).norm()
        assert 1 < further < 1.5  # further from the weights, nearer to their outputs
    expected = logits(original, tokens)
    errors = [(logits(m, tokens) - expected).norm() for m in (model, other)]
    assert errors[0] < errors[1]
    assert all(layer.relative_error > 0 for layer in result.layers)


@pytest.mark.parametrize("name", BOTH)
def test_rotations_leave_the_logits_as_they_were(name, tokens):
    model, expected = build("qwen2"), logits(build("qwen2"), tokens)
    before = model.model.layers[0].mlp.up_proj.weight
    fp4_gptq.rotate(model, FORMATS[name].group_size)
    turned = model.model.layers[0].mlp.up_proj
    assert not torch.equal(turned.linear.weight, before)
    torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-4, atol=1e-4)
    # Each group by itself.
    x = torch.zeros(1, 64)
    x[0, 3] = 1
    spread = fp4_gptq.rotated(x, 16)
    assert spread[0, :16].abs().tolist() == pytest.approx([0.25] * 16)
    assert not spread[0, 16:].any()


def test_an_outlier_that_a_group_shares_costs_less_behind_a_rotation(tokens):
    """One input channel of each 32 is large: rounded alone it takes all of its group's scale."""
    errors = {}
    for turned in (False, True):
        model = build(num_hidden_layers=1)
        norm = model.model.layers[0].post_attention_layernorm
        norm.weight.data[::32] = 30
        expected = logits(model, tokens)
        fp4_gptq.quantize(model, tokens, format="mxfp4", activations=True, rotate_groups=turned)
        errors[turned] = (logits(model, tokens) - expected).norm() / expected.norm()
    assert errors[True] < errors[False]


def test_a_rotated_model_is_not_saved_and_one_without_is(tokens, tmp_path):
    model = build()
    result = apply("nvfp4_gptq_w4a4", model, tokens, seed=0, progress=None)
    checkpoint.save(model, tmp_path / "plain")
    assert model_digest(checkpoint.load(tmp_path / "plain")) == result.weights_sha256
    model = build()
    assert apply("mxfp4_mrgptq_w4a16", model, tokens, seed=0, progress=None).latency_simulated
    with pytest.raises(UsageError, match="transforms what its layers read"):
        checkpoint.save(model, tmp_path / "turned")


def test_widths_that_no_rotation_divides_are_refused_by_name(tokens):
    model = build(intermediate_size=200)
    with pytest.raises(UsageError, match=r"200 inputs do not divide.*of 32.*down_pro"):
        apply("mxfp4_mrgptq_w4a16", model, tokens, seed=0, progress=None)
    assert all(setting["format"] in FORMATS for setting in FP4_GPTQ.values())
