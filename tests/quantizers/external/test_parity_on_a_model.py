"""Ours against each library's on an embedded model, same data, whole pipeline.

Ours is given the library's conventions, named in each case, and scales in float32 as it keeps them
while it works. Bars: every layer's output error within 1 %, perplexity within .5 %. AWQ rescales
what its layers read, so there the error is that of whole blocks. SmoothQuant, whose library differs
in more than a setting, has its own test.
"""

import functools

import pytest
import torch
from torch import nn

from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import awq, gptq, hqq, rtn
from benchsuite.quantizers.external import (
    autoawq,
    gptqmodel,
    llmcompressor,
    neural_compressor,
    torchao,
)
from benchsuite.quantizers.external import hqq as hqq_reference
from benchsuite.quantizers.external.guest import replace_linears
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import QuantizedLinear, quantized_linear


@pytest.fixture(scope="module")
def batch(text_ids):
    """Calibration data int64 [16, 256]."""
    return text_ids("train", 16 * 256).reshape(16, 256)


def named_linears(model):
    return dict(architecture_of(model).named_linears(model))


def weight(linear):
    """Return the weight that a layer of ours or of a library multiplies by."""
    if hasattr(linear, "dequantize"):
        return linear.dequantize()
    held = linear.weight
    return held.dequantize() if hasattr(held, "__tensor_flatten__") else held


@pytest.fixture(scope="module")
def linear_errors(lend, batch):
    """Return f(model) -> {linear: sum of squared output errors on the original's inputs}."""
    inputs = {}

    def errors(model):
        quantized, found = named_linears(model), {}
        with lend() as original:
            for name, before in named_linears(original.model).items():
                off = (before.weight - weight(quantized[name])).double()
                found[name] = (inputs[name] @ off.T).square().sum().item()
        return found

    with lend() as lease:
        for name, linear in named_linears(lease.model).items():

            def keep(module, arguments, name=name):
                inputs[name] = arguments[0].flatten(0, 1).double()

            linear.register_forward_pre_hook(keep)
        with torch.no_grad():
            lease.model(input_ids=batch)
    return errors


@pytest.fixture(scope="module")
def block_errors(lend, batch):
    """Return f(model) -> [sum of a block's squared output errors on the original's inputs]."""
    calls = []

    def errors(model):
        blocks = architecture_of(model).block_list(model)
        return [
            (block(*args, **kwargs) - goal).double().square().sum().item()
            for block, (args, kwargs, goal) in zip(blocks, calls, strict=True)
        ]

    with lend() as lease:
        for block in architecture_of(lease.model).block_list(lease.model):
            block.register_forward_hook(lambda _, *call: calls.append(call), with_kwargs=True)
        with torch.no_grad():
            lease.model(input_ids=batch)
    return errors


@pytest.fixture(scope="module")
def perplexity_after(lend, text_ids):
    """Return f(quantize, errors) -> (errors of the quantized model, its perplexity)."""
    held_out = text_ids("test", 12_000)

    def measured(quantize, errors=lambda model: None):
        with lend() as lease:
            quantize(lease.model)
            with torch.no_grad(), using_kernel(lease.model, "held"):
                quality = perplexity(lease.model, held_out, seq_len=256, batch_size=16).value
                return errors(lease.model), quality

    return measured


@pytest.fixture(scope="module")
def assert_parity(perplexity_after):
    """Hold two quantizers to the bars."""

    def check(ours, theirs, errors):
        our_errors, our_quality = perplexity_after(ours, errors)
        their_errors, their_quality = perplexity_after(theirs, errors)
        assert our_errors == pytest.approx(their_errors, rel=0.01)
        assert our_quality == pytest.approx(their_quality, rel=0.005)

    return check


def gptq_in_float32(batch, **settings):
    return functools.partial(gptq.quantize, batch=batch, scale_dtype=torch.float32, **settings)


@pytest.mark.stress
@pytest.mark.parametrize("desc_act", [False, True])
def test_gptq_and_llm_compressor(desc_act, batch, linear_errors, assert_parity):
    pytest.importorskip("llmcompressor")
    # It fits all groups beforehand; its act order changes the order of columns, not the groups.
    ours = gptq_in_float32(batch, static_groups=True, desc_act=desc_act)
    options = {} if desc_act else {"actorder": None}
    theirs = functools.partial(llmcompressor.quantize, batch=batch, recipe="gptq", **options)
    assert_parity(ours, theirs, linear_errors)


@pytest.mark.stress
def test_gptq_and_gptqmodel(batch, linear_errors, assert_parity):
    pytest.importorskip("gptqmodel")
    theirs = functools.partial(
        gptqmodel.quantize, batch=batch, method="gptq", damp_percent=0.01, act_group_aware=False
    )
    assert_parity(gptq_in_float32(batch, true_sequential=True), theirs, linear_errors)


@pytest.mark.stress
def test_gptq_and_neural_compressor(batch, linear_errors, assert_parity):
    pytest.importorskip("neural_compressor.torch")
    # As by default in blocks of 2048 columns, groups would be fitted to uncorrected weights.
    theirs = functools.partial(neural_compressor.quantize, batch=batch, block_size=128)
    assert_parity(gptq_in_float32(batch), theirs, linear_errors)


@pytest.mark.stress
def test_awq_and_autoawq(batch, block_errors, assert_parity, monkeypatch):
    pytest.importorskip("awq")
    # It rounds clipped weights to half precision before it rounds them to 4 bits, and a group that
    # is clipped at both ends lies half way between two zero points.
    monkeypatch.setattr(nn.Linear, "half", lambda self: self)
    ours = functools.partial(awq.quantize, batch=batch, scale_dtype=torch.float32)
    theirs = functools.partial(autoawq.quantize, batch=batch, duo_scaling=False)
    assert_parity(ours, theirs, block_errors)


@pytest.mark.stress
def test_autoawq_searches_on_unscaled_weights_on_a_cpu_too(batch, perplexity_after):
    pytest.importorskip("awq")
    # Left alone it would keep the scales of its first candidate, and lose to plain rounding.
    _, scaled = perplexity_after(functools.partial(autoawq.quantize, batch=batch[:4]))
    _, nearest = perplexity_after(functools.partial(rtn.quantize, sym=False))
    assert scaled < nearest


def test_hqq_and_its_reference(linear_errors, assert_parity):
    pytest.importorskip("hqq")

    def layer(linear):
        codes, scales, zeros, _ = hqq.round_weight(linear.weight, 4, 64, None, torch.float32)
        grid = {"bits": 4, "group_size": 64, "free_zeros": True}
        return QuantizedLinear(codes, scales, zeros, bias=linear.bias, **grid)

    ours = functools.partial(replace_linears, make=layer)
    assert_parity(ours, hqq_reference.quantize, linear_errors)


def test_round_to_nearest_and_torchao(lend, perplexity_after):
    pytest.importorskip("torchao")
    grid = QuantizationGrid(4, 128, sym=True, scale_dtype=torch.float32)

    def layer(linear):
        return quantized_linear(linear, grid, *grid.round_weight(linear.weight))

    ours = functools.partial(replace_linears, make=layer)
    with lend() as original:
        before = {name: linear.weight for name, linear in named_linears(original.model).items()}

        def distances(model):
            return {
                name: (before[name] - weight(linear)).abs()
                for name, linear in named_linears(model).items()
            }

        our_distances, our_quality = perplexity_after(ours, distances)
        their_distances, their_quality = perplexity_after(torchao.quantize, distances)
    for name, distance in our_distances.items():
        # A group's largest weight lies half way between two codes, and the last bit of the scale
        # says which it takes: so distances are compared.
        torch.testing.assert_close(distance, their_distances[name], rtol=0, atol=1e-6)
    assert our_quality == pytest.approx(their_quality, rel=0.005)
