"""Our GPTQ against two libraries' own functions, on one layer with one float64 Hessian.

Their ordering options are off. Bars: at least 99.5 % equal codes, tr(E H E^T) within 0.1 %.
"""

import pytest
import torch

from benchsuite.quantizers.gptq import invert_panels, quantize_block, round_columns
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.walking.hessian import upper_factor, weighted_norm

ROWS, COLUMNS, GROUP = 96, 384, 128
SETTINGS = [(4, True), (4, False), (3, True), (8, True)]


@pytest.fixture(scope="module")
def layer():
    """A weight and the Hessian of strongly correlated inputs with outlier channels."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = normal(3000, 60) @ normal(60, COLUMNS) + 0.3 * normal(3000, COLUMNS)
    inputs = hidden * torch.exp(normal(COLUMNS))
    return 0.02 * normal(ROWS, COLUMNS), 2 * inputs.T @ inputs / len(inputs)


def ours(weight, hessian, grid, static_groups):
    factor = upper_factor(hessian, 0.01, "layer").upper
    work, panels = weight.t().clone(), invert_panels(factor, GROUP)
    rounded = round_columns(work, factor, panels, grid, None, static_groups, quantize_block)
    scale = grid.spread(rounded.scales, COLUMNS)
    zero = grid.spread(rounded.zeros, COLUMNS)
    codes = rounded.codes.double()
    return codes, grid.decode(codes, scale, zero), scale, zero


def assert_parity(mine, theirs, weight, hessian, scale, zero):
    codes, values = mine
    their_codes = torch.round(theirs / scale + zero)
    assert (codes == their_codes).double().mean() >= 0.995
    errors = [weighted_norm(weight - w, hessian).item() for w in (values, theirs)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


@pytest.mark.parametrize(("bits", "sym"), SETTINGS)
def test_gptqmodel(bits, sym, layer, monkeypatch):
    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    gptqmodel = pytest.importorskip("gptqmodel")
    from gptqmodel.quantization.gptq import GPTQ

    weight, hessian = layer
    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False, dtype=torch.float64)
    linear.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    config = gptqmodel.QuantizeConfig(
        bits=bits,
        group_size=GROUP,
        sym=sym,
        desc_act=False,
        act_group_aware=False,
        damp_percent=0.01,
    )
    task = GPTQ(linear, config)
    task.quantizer.configure(perchannel=True)
    task.fallback, task.nsamples = None, 3000
    task.module_copy, task.H = weight.clone(), hessian.clone()
    # Its own accumulation is in float32: hand it the Hessian in place of the sum.
    monkeypatch.setattr(task, "finalize_hessian", lambda target_device=None: task.H)
    theirs, their_scale, _, _, _, _, damp, _ = task.quantize()
    assert damp == 0.01

    grid = QuantizationGrid(bits, GROUP, sym, scale_dtype=torch.float64)
    codes, values, scale, zero = ours(weight, hessian, grid, static_groups=False)
    torch.testing.assert_close(their_scale.double(), scale[:, ::GROUP], rtol=1e-3, atol=0)
    assert_parity((codes, values), theirs.double(), weight, hessian, scale, zero)


@pytest.mark.parametrize(("bits", "sym"), SETTINGS)
def test_llm_compressor(bits, sym, layer, monkeypatch):
    library = pytest.importorskip("llmcompressor.modifiers.gptq.gptq_quantize")
    from compressed_tensors.quantization import QuantizationArgs

    weight, hessian = layer
    grid = QuantizationGrid(bits, GROUP, sym, scale_dtype=torch.float64)
    codes, values, scale, zero = ours(weight, hessian, grid, static_groups=True)
    # It takes group parameters from an observer, fitted beforehand, with codes around zero.
    middle = 2 ** (bits - 1)
    monkeypatch.setattr(library, "GPTQ_PRECISION", torch.float64)
    theirs, _, fell_back = library.quantize_weight(
        weight[None].clone(),
        hessian[None].clone(),
        scale[None, :, ::GROUP],
        zero[None, :, ::GROUP] - middle,
        None,
        QuantizationArgs(
            num_bits=bits, symmetric=sym, strategy="group", group_size=GROUP, actorder=None
        ),
    )
    assert not fell_back.any()
    assert_parity((codes, values), theirs[0].double(), weight, hessian, scale, zero)
