"""NVFP4 and MXFP4: grids against the standards, layers, checkpoints, llm-compressor's codes."""

import copy
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchsuite.embedded import models as embedded
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.quantizers import checkpoint, fp4
from benchsuite.quantizers.formats.fp4_grid import E4M3, FORMATS, codes_of, numbers_of, round_e2m1
from benchsuite.quantizers.formats.fp4_linear import Fp4Linear
from benchsuite.quantizers.linear import model_digest, quantized_linears
from benchsuite.quantizers.registry import QUANTIZERS, apply
from tests.quantizers.conftest import build, logits

NVFP4, MXFP4 = FORMATS["nvfp4"], FORMATS["mxfp4"]
BOTH = [(name, activations) for name in FORMATS for activations in (False, True)]

E2M1 = {  # code: sign, exponent, mantissa -> value, written out from the standard's definition
    0b0000: 0.0,
    0b0001: 0.5,  # exponent 0: mantissa / 2
    0b0010: 1.0,
    0b0011: 1.5,
    0b0100: 2.0,
    0b0101: 3.0,
    0b0110: 4.0,
    0b0111: 6.0,
    0b1000: -0.0,
    0b1001: -0.5,
    0b1010: -1.0,
    0b1011: -1.5,
    0b1100: -2.0,
    0b1101: -3.0,
    0b1110: -4.0,
    0b1111: -6.0,
}
ROUNDED = {  # input -> code
    # halves between neighbours, to the even code
    0.25: 0b0000,
    0.75: 0b0010,
    1.25: 0b0010,
    1.75: 0b0100,
    2.5: 0b0100,
    3.5: 0b0110,
    5.0: 0b0110,
    # the next float32 on either side
    0.25000003: 0b0001,
    0.74999994: 0b0001,
    1.2500001: 0b0011,
    1.7499999: 0b0011,
    2.5000002: 0b0101,
    3.4999998: 0b0101,
    5.0000005: 0b0111,
    # beyond the largest, and next to nothing
    6.0: 0b0111,
    7.99: 0b0111,
    1e30: 0b0111,
    1e-45: 0b0000,
    0.0: 0b0000,
}
BYTES = {  # largest of a group -> E8M0 byte: 127 + exponent
    6.0: 127,
    4.0: 127,
    6.9999995: 127,  # cut off at 6
    7.0: 128,
    7.9999995: 128,
    8.0: 128,
    3.9999998: 127,  # next to 4: 3.5 and more
    3.5: 127,
    3.4999998: 126,
    1.0: 125,
    2.0**-126: 0,  # 2^-128 is out of reach
    2.0**-125: 0,
    2.0**-124: 1,
    2.0**-149: 0,  # the smallest float32
    0.0: 0,
    2.0**127: 252,
    3.4028234663852886e38: 253,
}
PRODUCTS = {  # g max / 6 before it is rounded -> E4M3 scale
    448.0: 448.0,
    449.0: 448.0,
    1e6: 448.0,
    1.0625: 1.0,  # half way between 1 and 1.125, whose code is odd
    1.1875: 1.25,  # half way between 1.125 and 1.25
    2.0**-9: 2.0**-9,  # the smallest subnormal
    2.0**-10: 0.125,  # half of it is 0, for which 1/8 stands
    1.5 * 2.0**-9: 2.0**-8,
    2.0**-6: 2.0**-6,
    7 * 2.0**-9: 7 * 2.0**-9,  # the largest subnormal
    0.0: 0.125,
}


def rounded(name, activations, family="llama", dtype=torch.bfloat16, **changes):
    tokens = torch.randint(0, 256, (4, 32), generator=torch.Generator().manual_seed(3))
    model = build(family, dtype, **changes)
    return model, fp4.quantize(model, tokens, format=name, activations=activations), tokens


def test_the_sixteen_numbers():
    codes = torch.arange(16, dtype=torch.uint8)
    numbers = numbers_of(codes)
    assert numbers.tolist() == list(E2M1.values())
    assert numbers.signbit().tolist() == [code >= 8 for code in range(16)]
    assert torch.equal(codes_of(numbers), codes)
    assert torch.equal(round_e2m1(numbers), numbers)


def test_halves_and_their_neighbours_are_rounded_as_the_standard_says():
    values = torch.tensor(list(ROUNDED))
    assert codes_of(round_e2m1(values)).tolist() == list(ROUNDED.values())
    below = codes_of(round_e2m1(-values)).tolist()
    assert below == [code | 8 for code in ROUNDED.values()]


@given(st.floats(-8, 8, width=32))
@settings(max_examples=30, deadline=None)
def test_any_number_goes_to_the_nearest_of_even_code(value):
    positive = list(E2M1.items())[:8]
    goal = abs(Fraction(value))
    _, _, code = min((abs(Fraction(number) - goal), code % 2, code) for code, number in positive)
    assert codes_of(round_e2m1(torch.tensor([value]))).item() & 7 == code


def test_e8m0_scales():
    found = MXFP4.scale_bytes(torch.tensor(list(BYTES)), None)
    assert found.tolist() == list(BYTES.values())
    octets = torch.arange(255, dtype=torch.uint8)
    assert MXFP4.scales(octets, None).tolist() == [2.0 ** (byte - 127) for byte in range(255)]


def test_e4m3_scales():
    one = torch.ones(1)
    found = NVFP4.scale_bytes(6 * torch.tensor(list(PRODUCTS)), one)
    assert NVFP4.scales(found, one).tolist() == list(PRODUCTS.values())


def test_the_scale_of_a_tensor_puts_its_largest_group_at_the_largest_scale():
    x = torch.zeros(2, 48)
    x[0, :16], x[1, 3] = 0.003, -0.7
    g = NVFP4.global_scale(x.abs().amax().reshape(1))
    assert g.item() == pytest.approx(448 * 6 / 0.7)
    codes, octets = NVFP4.encode(x, g)
    assert octets.view(E4M3).float().tolist() == [[1.875, 0.125, 0.125], [448.0, 0.125, 0.125]]
    assert codes[1, 3] == 0b1111
    assert not codes[:, 16:].any()
    assert NVFP4.rounded(x, g)[1, 3].item() == pytest.approx(-0.7)
    assert NVFP4.global_scale(torch.zeros(1)).item() == 1
    assert MXFP4.global_scale(torch.ones(1)) is None


@pytest.mark.parametrize("format", FORMATS.values(), ids=list(FORMATS))
def test_what_codes_stand_for_is_what_rounding_leaves(format):
    x = torch.randn(5, 3 * 32 + 16, generator=torch.Generator().manual_seed(0))
    g = format.global_scale(x.abs().amax().reshape(1))
    codes, octets = format.encode(x, g)
    layer = Fp4Linear(codes, octets, g, format=format)
    assert torch.equal(layer.dequantize(), format.rounded(x, g))
    # No number of a group is further off than half the widest step, but for what is cut off.
    step = format.spread(format.scales(octets, g), x.shape[1])
    error = (layer.dequantize() - x).abs()
    assert (error <= step * (1 if format is NVFP4 else 2)).all()
    assert list(octets.shape) == [5, -(-x.shape[1] // format.group_size)]


@pytest.mark.parametrize(("name", "activations"), BOTH)
def test_a_layer_multiplies_what_its_codes_stand_for(name, activations):
    format, linear = FORMATS[name], torch.nn.Linear(80, 24)
    inputs = torch.randn(2, 5, 80, generator=torch.Generator().manual_seed(1))
    largest = inputs.abs().amax() if activations and format.has_global else None
    made = fp4.fp4_linears({"x": linear}, format, activations=activations, largest=largest)["x"]
    g = None if largest is None else format.global_scale(largest)
    seen = format.rounded(inputs, g) if activations else inputs
    expected = F.linear(seen, made.dequantize(), linear.bias)
    torch.testing.assert_close(made(inputs), expected)
    assert torch.equal(made.use("held")(inputs), made.use("dequantize")(inputs))
    with pytest.raises(UsageError, match="no kernel 'int4_cpu'"):
        made.use("int4_cpu")


@pytest.mark.parametrize(("name", "activations"), BOTH)
def test_sizes_are_those_of_packed_codes_and_scales(name, activations):
    model, result, _ = rounded(name, activations)
    saved, size = 0, FORMATS[name].group_size
    for layer in quantized_linears(model).values():
        n_out, n_in = layer.out_features, layer.in_features
        of_tensor = 4 * (1 + activations) if name == "nvfp4" else 0
        assert layer.packed_bytes == n_out * n_in // 2 + n_out * n_in // size + of_tensor
        saved += 2 * n_out * n_in - layer.packed_bytes
    assert result.size_before_bytes - result.size_after_bytes == saved
    assert result.latency_simulated == activations


def test_linears_that_engines_run_as_one_share_the_scale_of_the_tensor():
    model, _, _ = rounded("nvfp4", True, dtype=torch.float32)
    of = {name: m.global_scale.item() for name, m in quantized_linears(model).items()}
    inputs = {name: m.input_global_scale.item() for name, m in quantized_linears(model).items()}
    block = "model.layers.0"
    original = build().model.layers[0].self_attn
    three = [getattr(original, f"{part}_proj").weight.abs().amax().item() for part in "qkv"]
    for part in "qkv":
        assert of[f"{block}.self_attn.{part}_proj"] == pytest.approx(2688 / max(three))
    assert of[f"{block}.mlp.gate_proj"] == of[f"{block}.mlp.up_proj"]
    assert inputs[f"{block}.mlp.gate_proj"] == inputs[f"{block}.mlp.up_proj"]
    assert len(set(of.values())) == 8
    assert len(set(inputs.values())) == 8
    # Each expert for itself.
    experts, _, _ = rounded("nvfp4", False, "mixtral", torch.float32)
    of = [m.global_scale.item() for n, m in quantized_linears(experts).items() if "gate_proj" in n]
    assert len(set(of)) == 4


def test_a_change_of_dtype_touches_neither_codes_nor_scales():
    model, result, _ = rounded("nvfp4", True, dtype=torch.float32)
    model.to(torch.float16)
    assert model_digest(model) == result.weights_sha256
    assert model.model.layers[0].mlp.up_proj.input_global_scale.dtype == torch.float32


def test_only_nvfp4_with_rounded_inputs_needs_data_and_unknown_formats_are_refused(make_model):
    needs = {n: QUANTIZERS[n].calibrated for n in QUANTIZERS if n.endswith(("_w4a16", "_w4a4"))}
    assert {n for n in needs if "gptq" not in n and "quarot" not in n and needs[n]} == {
        "nvfp4_w4a4"
    }
    with pytest.raises(UsageError, match="calibration data"):
        fp4.quantize(make_model(), format="nvfp4", activations=True)
    with pytest.raises(UsageError, match="unknown FP4 format 'fp4'"):
        fp4.quantize(make_model(), format="fp4")


@pytest.mark.parametrize(("name", "family"), [("nvfp4", "opt"), ("mxfp4", "mixtral")])
def test_a_saved_model_is_read_back_bit_by_bit(name, family, tmp_path):
    model, result, tokens = rounded(name, True, family)
    checkpoint.save(model, tmp_path)
    back = checkpoint.load(tmp_path)
    assert model_digest(back) == result.weights_sha256
    assert torch.equal(logits(back, tokens), logits(model, tokens))


@pytest.mark.parametrize(("name", "activations"), BOTH)
def test_transformers_with_compressed_tensors_computes_the_same_logits(name, activations, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    model, _, tokens = rounded(name, activations, "qwen2")
    checkpoint.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype="auto", quantization_config=CompressedTensorsConfig(run_compressed=False)
    )
    if (name, activations) == ("nvfp4", True):
        # In bfloat16 it divides a group's largest input by 6 in bfloat16; in float32 it cannot
        # compute, as its weights are bfloat16: they are given in full.
        theirs.float()
        model.float()
        for path, layer in quantized_linears(model).items():
            other = theirs.get_submodule(path)
            assert torch.equal(other.weight.data, layer.dequantize(torch.bfloat16).float())
            other.weight.data = layer.dequantize(torch.float32)
    assert torch.equal(logits(theirs, tokens), logits(model, tokens))


@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_without_its_scales_or_with_one_that_is_no_number_is_refused(name, tmp_path):
    from safetensors.torch import load_file, save_file

    model, _, _ = rounded(name, True, num_hidden_layers=1)
    checkpoint.save(model, tmp_path)
    file = tmp_path / "model.safetensors"
    state, layer = load_file(file), "model.layers.0.mlp.up_proj"
    for part in [key for key in state if key.startswith(layer)]:
        save_file({k: v for k, v in state.items() if k != part}, file)
        with pytest.raises(BenchsuiteError, match="missing"):
            checkpoint.load(tmp_path)
    bad = state[f"{layer}.weight_scale"].view(torch.uint8).clone()
    bad[0, 0] = 0xFF
    kind = state[f"{layer}.weight_scale"].dtype
    save_file(state | {f"{layer}.weight_scale": bad.view(kind)}, file)
    with pytest.raises(BenchsuiteError, match="weight_scale are not all finite"):
        checkpoint.load(tmp_path)


def test_widths_that_groups_do_not_divide_run_and_are_not_saved(tmp_path):
    model = build(intermediate_size=200)
    apply("mxfp4_w4a4", model, None, seed=0, progress=None)
    with pytest.raises(UsageError, match=r"MXFP4 format has no narrower last group of 32 inputs"):
        checkpoint.save(model, tmp_path)


# --- llm-compressor


@pytest.mark.stress
@pytest.mark.parametrize(("name", "activations"), BOTH)
def test_codes_and_scales_are_llm_compressor_s(name, activations, monkeypatch, tmp_path):
    pytest.importorskip("llmcompressor")
    from compressed_tensors.compressors import BaseCompressor
    from transformers import AutoModelForCausalLM

    from tests.quantizers.conftest import oneshot

    path = embedded.path("tiny_llama_1m")
    original = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    batch = torch.randint(0, 2048, (8, 128), generator=torch.Generator().manual_seed(0))
    ours = copy.deepcopy(original)
    fp4.quantize(ours, batch, format=name, activations=activations)
    preset = name.upper() if activations else f"{name.upper()}A16"
    theirs = oneshot(copy.deepcopy(original), preset, batch, monkeypatch, tmp_path)
    pack = BaseCompressor.get_value_from_registry(f"{name}-pack-quantized")
    for path, layer in quantized_linears(ours).items():
        other = theirs.get_submodule(path)
        held = {key: value.data for key, value in other.named_parameters()}
        packed = pack.compress(held, other.quantization_scheme)
        assert torch.equal(packed["weight_packed"], layer.packed)
        assert torch.equal(packed["weight_scale"].view(torch.uint8), layer.scales)
        if name == "nvfp4":
            assert torch.equal(packed["weight_global_scale"], layer.global_scale)
        if layer.input_global_scale is not None:
            # Sums over other batches differ in the last bits, which then move roundings.
            fixed = other.input_global_scale.data
            torch.testing.assert_close(layer.input_global_scale, fixed)
            layer.input_global_scale.copy_(fixed)
    assert torch.equal(logits(theirs, batch[:2]), logits(ours, batch[:2]))
