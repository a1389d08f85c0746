"""Inputs rounded once for all that read them: how often, to which bits, and when not.

On a machine with a CUDA GPU the models lie there, and few tokens are multiplied by kernels; those
run too in Triton's interpreter: TRITON_INTERPRET=1 with the package triton installed.
"""

import copy
import functools
import os
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch

from benchsuite.models.architecture import architecture_of
from benchsuite.models.replicas import Counterparts, replica
from benchsuite.quantizers import apply, fp4_gptq
from benchsuite.quantizers.formats import activations
from benchsuite.quantizers.formats.fp4_grid import Fp4Format
from benchsuite.quantizers.formats.fp8_linear import Fp8Linear
from benchsuite.quantizers.formats.int8 import Int8Linear
from benchsuite.quantizers.formats.last_rounded import LastRounded, RoundsInputs
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import quantized_linears
from tests.quantizers.conftest import build, logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton")
NEEDS_TRITON = pytest.mark.skipif(
    not (DEVICE == "cuda" or INTERPRETED), reason="needs a CUDA GPU or TRITON_INTERPRET=1"
)
ROUNDED_BY = {
    "fp8_static": (Fp8Linear, "round_inputs"),
    "fp8_dynamic": (Fp8Linear, "round_inputs"),
    "fp8_block": (Fp8Linear, "round_inputs"),
    "smoothquant_w8a8": (Int8Linear, "round_inputs"),
    "nvfp4_w4a4": (Fp4Format, "rounded"),
    "mxfp4_w4a4": (Fp4Format, "rounded"),
    "nvfp4_mrgptq_w4a4": (Fp4Format, "rounded"),
    "mxfp4_mrgptq_w4a4": (fp4_gptq, "rotated"),
    "quarot_w4a4kv4": (activations, "fake_quantize_per_token"),
}
"""The function that rounds (of MXFP4 with MR-GPTQ: rotates) the inputs of a method's layers."""

SOME = ["fp8_static", "fp8_dynamic", "smoothquant_w8a8", "nvfp4_w4a4", "mxfp4_w4a4"]
TOKENS = torch.randint(0, 256, (4, 32), generator=torch.Generator().manual_seed(3)).to(DEVICE)


@functools.cache
def _made(method, family):
    model = build(family).to(DEVICE)
    apply(method, model, TOKENS, seed=0, progress=None)
    return model


def rounded(method, family="llama"):
    return copy.deepcopy(_made(method, family))


@pytest.fixture
def roundings(monkeypatch):
    """Count what a method's rounding is called for; it rounds all the same."""

    def counted(method):
        owner, name = ROUNDED_BY[method]
        real, calls = getattr(owner, name), []

        def spy(*given, **named):
            calls.append(name)
            return real(*given, **named)

        monkeypatch.setattr(owner, name, spy)
        return calls

    return counted


def alone(model, kernel):
    """Let every layer use the kernel and share nothing."""
    for layer in quantized_linears(model).values():
        layer.use(layer.fastest_for_few_tokens() if kernel == "few_tokens" else kernel)
    return model


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (2, 4), (3, 20)])
@pytest.mark.parametrize("kernel", ["held", "few_tokens"])
@pytest.mark.parametrize("method", ROUNDED_BY)
def test_a_block_rounds_four_inputs_and_not_seven(method, kernel, batch, length, roundings):
    model, tokens = rounded(method), TOKENS[:batch, :length]
    calls = roundings(method)
    expected = logits(alone(model, kernel), tokens)
    n_blocks = len(architecture_of(model).block_list(model))
    assert len(calls) == 7 * n_blocks
    calls.clear()
    with using_kernel(model, kernel):
        assert torch.equal(logits(model, tokens), expected)
        assert len(calls) == 4 * n_blocks
        assert torch.equal(logits(model, tokens), expected)
        assert len(calls) == 8 * n_blocks
    assert all(m.last_rounded is None for m in model.modules() if isinstance(m, RoundsInputs))
    calls.clear()
    assert torch.equal(logits(alone(model, kernel), tokens), expected)
    assert len(calls) == 7 * n_blocks


@pytest.mark.parametrize("family", ["opt", "mixtral"])
def test_other_families_round_what_their_linears_share_once(family, roundings):
    model, calls = rounded("smoothquant_w8a8", family), roundings("smoothquant_w8a8")
    expected = logits(alone(model, "held"), TOKENS[:2])
    apart = len(calls)
    with using_kernel(model, "held"):
        assert torch.equal(logits(model, TOKENS[:2]), expected)
    # Of q, k and v two are spared; of each expert that was sent tokens one.
    spared = 2 * 2 + (0 if family == "opt" else 2 * 2)
    assert len(calls) - apart == apart - spared


def two_readers(method):
    """The layers that read a block's gate and up, with the inputs of one."""
    model = rounded(method)
    mlp = model.model.layers[0].mlp
    return torch.nn.ModuleList([mlp.gate_proj, mlp.up_proj])


@pytest.mark.parametrize("tokens", [2, 9])
@pytest.mark.parametrize("kernel", ["held", pytest.param("triton", marks=NEEDS_TRITON)])
@pytest.mark.parametrize("method", SOME)
def test_inputs_that_were_written_to_are_rounded_anew(method, kernel, tokens, roundings):
    pair, calls = two_readers(method), roundings(method)
    inputs = torch.randn(tokens, 128, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    alone(pair, kernel)
    expected = [pair[0](inputs), pair[1](inputs.neg()), pair[0](inputs.neg())]
    calls.clear()
    with torch.no_grad(), using_kernel(pair, kernel):
        found = [pair[0](inputs)]
        inputs.neg_()
        found += [pair[1](inputs), pair[0](inputs)]
    assert len(calls) == 2
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("method", SOME)
def test_nothing_is_shared_where_nobody_counts_what_is_written(method):
    pair = two_readers(method)
    inputs = torch.ones(2, 128, device=DEVICE)
    with using_kernel(pair, "few_tokens"), torch.inference_mode():
        expected = [layer(inputs.neg()) for layer in pair]
        for given in (inputs.clone(), inputs):  # one of this mode, one from outside
            pair[0](given)
            given.neg_()
            assert torch.equal(pair[1](given), expected[1])


@pytest.mark.parametrize(
    ("method", "fixed"), [("nvfp4_w4a4", "input_global_scale"), ("fp8_static", "input_scale")]
)
def test_layers_share_what_they_round_by_equal_scales_alone(method, fixed, roundings):
    pair, calls = two_readers(method), roundings(method)
    inputs = torch.randn(9, 128, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    first, second = (getattr(layer, fixed) for layer in pair)
    assert first is not second
    assert torch.equal(first, second)
    for factor, n_roundings in ((1, 1), (2, 2)):
        second.mul_(factor)
        expected = [layer(inputs) for layer in alone(pair, "held")]
        calls.clear()
        with using_kernel(pair, "held"):
            assert all(map(torch.equal, (layer(inputs) for layer in pair), expected))
        assert len(calls) == n_roundings


def test_layers_that_round_otherwise_get_their_own():
    inputs = torch.randn(9, 128, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    layers = torch.nn.ModuleList(two_readers(method)[0] for method in SOME)
    layers.extend([activations.ActivationQuantizer(4), activations.ActivationQuantizer(8)])
    expected = [layer(inputs) for layer in layers]
    with using_kernel(layers, "dequantize"):
        for _ in range(2):
            assert all(map(torch.equal, (layer(inputs) for layer in layers), expected))


@pytest.mark.parametrize("method", ["smoothquant_w8a8", "nvfp4_w4a4"])
def test_replicas_that_work_at_the_same_time_give_their_own_bits(method):
    model = rounded(method)
    expected = [logits(alone(model, "held"), row[None]) for row in TOKENS]
    with using_kernel(model, "held"), ThreadPoolExecutor(2) as pool:
        twin = replica(model, Counterparts(torch.device(DEVICE)))
        for _ in range(3):
            for number in (0, 2):
                given = ((model, TOKENS[number, None]), (twin, TOKENS[number + 1, None]))
                found = list(pool.map(lambda pair: logits(*pair), given))
                assert all(map(torch.equal, found, expected[number : number + 2]))


def test_nothing_is_shared_where_inputs_have_gradients():
    """As a rotation's inputs may; rounding itself has none."""
    last, inputs = LastRounded(), torch.ones(3, device=DEVICE, requires_grad=True)
    with torch.no_grad():
        assert not last.of(inputs, "way", inputs.exp).requires_grad
    for _ in range(2):  # each reader with a backward pass of its own
        last.of(inputs, "way", inputs.exp).sum().backward()
    assert torch.equal(inputs.grad, 2 * inputs.exp())


def test_what_was_rounded_and_then_written_to_is_made_anew():
    last, inputs = LastRounded(), torch.ones(3, device=DEVICE)
    one = last.of(inputs, "way", lambda: (inputs.clone(), inputs.neg()))
    assert last.of(inputs, "way", lambda: (inputs, inputs)) is one
    one[1].mul_(2)
    codes, scales = last.of(inputs, "way", lambda: (inputs.clone(), inputs.neg()))
    assert torch.equal(codes, inputs)
    assert torch.equal(scales, -inputs)


def test_what_was_rounded_goes_with_its_inputs_and_a_copy_begins_empty():
    last, inputs = LastRounded(), torch.ones(3, device=DEVICE)
    made = weakref.ref(last.of(inputs, "way", inputs.neg))
    assert last.of(inputs, "way", inputs.sqrt) is made()
    for other in (copy.deepcopy(last), pickle.loads(pickle.dumps(last))):
        assert torch.equal(other.of(inputs, "way", inputs.sqrt), inputs)
    del inputs, other
    assert made() is None


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA GPU")
@pytest.mark.parametrize("tokens", [2, 40])
@pytest.mark.parametrize("method", SOME)
def test_the_replays_of_a_graph_round_what_lies_there_then(method, tokens):
    pair = two_readers(method)
    inputs = torch.randn(tokens, 128, device=DEVICE)

    def step():
        return [layer(inputs) for layer in pair]

    with torch.no_grad(), using_kernel(pair, "few_tokens"):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()  # what is rounded here is not for the capture, of the same tensor
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            made = step()
        for factor in (1, -3):
            inputs.mul_(factor)
            graph.replay()
            assert all(map(torch.equal, made, step()))
    alone(pair, "few_tokens")
    assert all(map(torch.equal, made, step()))
