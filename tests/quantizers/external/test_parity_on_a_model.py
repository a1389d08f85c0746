"""Ours against each library's on an embedded model, same data, whole pipeline.

Ours is given the library's conventions, named in each case, and scales in float32 as it keeps them
while it works. Bars: every layer's output error within 1 %, perplexity within .5 %. AWQ and
SmoothQuant, whose libraries differ in more than a setting, have their own tests.
"""

import functools

import pytest
import torch

from benchsuite import catalog
from benchsuite.corpora.text import load_text
from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
from benchsuite.models.architecture import architecture_of
from benchsuite.models.pool import ModelPool
from benchsuite.quantizers import gptq, hqq, rtn
from benchsuite.quantizers.external import gptqmodel, llmcompressor, torchao
from benchsuite.quantizers.external import hqq as hqq_reference
from benchsuite.quantizers.external.guest import replace_linears
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import QuantizedLinear, using_kernel

POOL = ModelPool()
ENTRY = catalog.model("tiny_llama_1m")


@pytest.fixture(scope="module")
def data():
    """Calibration data int64 [16, 256], 12,000 held-out tokens, and each linear's inputs."""
    with POOL.lease(ENTRY) as lease:
        text = load_text("embedded_text", "train").joined[:60_000]
        batch = tokenize_protocol(lease.tokenizer, text).flatten()[: 16 * 256].reshape(16, 256)
        text = load_text("embedded_text", "test").joined[:40_000]
        held_out = tokenize_protocol(lease.tokenizer, text).flatten()[:12_000]
        inputs = {}
        for name, linear in architecture_of(lease.model).named_linears(lease.model):

            def keep(module, arguments, name=name):
                inputs[name] = arguments[0].flatten(0, 1).double()

            linear.register_forward_pre_hook(keep)
        with torch.no_grad():
            lease.model(input_ids=batch)
        return batch, held_out, inputs


def weight(linear):
    """Return the weight that a layer of ours or of a library multiplies by."""
    if hasattr(linear, "dequantize"):
        return linear.dequantize()
    held = linear.weight
    return held.dequantize() if hasattr(held, "__tensor_flatten__") else held


def measured(quantize, data):
    """Return ({linear: sum of its squared output errors on the original's inputs}, perplexity)."""
    _, held_out, inputs = data
    with POOL.lease(ENTRY) as original, POOL.lease(ENTRY) as lease:
        quantize(lease.model)
        with torch.no_grad(), using_kernel(lease.model, "held"):
            quality = perplexity(lease.model, held_out, seq_len=256, batch_size=16).value
            linears = dict(architecture_of(lease.model).named_linears(lease.model))
            errors = {}
            for name, before in architecture_of(original.model).named_linears(original.model):
                off = (before.weight - weight(linears[name])).double()
                errors[name] = (inputs[name] @ off.T).square().sum().item()
    return errors, quality


def assert_parity(ours, theirs, data):
    (our_errors, our_quality), (their_errors, their_quality) = (
        measured(quantize, data) for quantize in (ours, theirs)
    )
    assert our_errors == pytest.approx(their_errors, rel=0.01)
    assert our_quality == pytest.approx(their_quality, rel=0.005)


def gptq_in_float32(batch, **settings):
    return functools.partial(gptq.quantize, batch=batch, scale_dtype=torch.float32, **settings)


@pytest.mark.parametrize("desc_act", [False, True])
def test_gptq_and_llm_compressor(data, desc_act):
    pytest.importorskip("llmcompressor")
    # It fits all groups beforehand; its act order changes the order of columns, not the groups.
    ours = gptq_in_float32(data[0], static_groups=True, desc_act=desc_act)
    options = {} if desc_act else {"actorder": None}
    theirs = functools.partial(llmcompressor.quantize, batch=data[0], recipe="gptq", **options)
    assert_parity(ours, theirs, data)


def test_gptq_and_gptqmodel(data):
    pytest.importorskip("gptqmodel")
    theirs = functools.partial(
        gptqmodel.quantize, batch=data[0], method="gptq", damp_percent=0.01, act_group_aware=False
    )
    assert_parity(gptq_in_float32(data[0], true_sequential=True), theirs, data)


def test_hqq_and_its_reference(data):
    pytest.importorskip("hqq")

    def layer(linear):
        codes, scales, zeros, _ = hqq.round_weight(linear.weight, 4, 64, None, torch.float32)
        grid = {"bits": 4, "group_size": 64, "free_zeros": True}
        return QuantizedLinear(codes, scales, zeros, bias=linear.bias, **grid)

    assert_parity(lambda model: replace_linears(model, layer), hqq_reference.quantize, data)


def test_round_to_nearest_and_torchao(data):
    pytest.importorskip("torchao")
    grid = QuantizationGrid(4, 128, sym=True, scale_dtype=torch.float32)

    def layer(linear):
        return rtn.quantized_linear(linear, grid, *rtn.round_weight(linear.weight, grid))

    with POOL.lease(ENTRY) as original, POOL.lease(ENTRY) as ours, POOL.lease(ENTRY) as theirs:
        replace_linears(ours.model, layer)
        torchao.quantize(theirs.model)
        for name, before in architecture_of(original.model).named_linears(original.model):
            # A group's largest weight lies half way between two codes, and the last bit of the
            # scale says which it takes: so distances are compared.
            off, their_off = (
                (before.weight - weight(lease.model.get_submodule(name))).abs()
                for lease in (ours, theirs)
            )
            torch.testing.assert_close(off, their_off, rtol=0, atol=1e-6)
    _, our_quality = measured(lambda model: replace_linears(model, layer), data)
    _, their_quality = measured(torchao.quantize, data)
    assert our_quality == pytest.approx(their_quality, rel=0.005)
