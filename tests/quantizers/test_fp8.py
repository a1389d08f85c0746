"""FP8 W8A8: E4M3 is what the standard says, three schemes, their products and their checkpoints."""

import copy
import json
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchsuite.embedded import models as embedded
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.quantizers import checkpoint, fp8
from benchsuite.quantizers.formats.fp8_linear import (
    E4M3,
    SCHEMES,
    Fp8Linear,
    encode,
    scaled_product,
)
from benchsuite.quantizers.linear import model_digest, quantized_linears
from benchsuite.quantizers.registry import QUANTIZERS, apply
from tests.quantizers.conftest import build, logits, oneshot


def e4m3_numbers():
    """All finite E4M3 numbers that are not negative, in order, from the standard's own formula."""
    numbers = []
    for exponent in range(16):
        for mantissa in range(8):
            if exponent == 0:
                numbers.append(Fraction(mantissa, 8) * Fraction(2) ** -6)
            elif (exponent, mantissa) != (15, 7):  # not a number
                numbers.append((1 + Fraction(mantissa, 8)) * Fraction(2) ** (exponent - 7))
    return numbers


NUMBERS = e4m3_numbers()


def nearest(value):
    """The E4M3 number nearest to a Fraction, by search; of two the one whose code is even."""
    size = min(abs(value), NUMBERS[-1])
    codes = sorted(range(len(NUMBERS)), key=lambda code: (abs(NUMBERS[code] - size), code % 2))
    return NUMBERS[codes[0]] * (-1 if value < 0 else 1)


def rounded(scheme, family="llama", dtype=torch.float32):
    tokens = torch.randint(0, 256, (4, 32), generator=torch.Generator().manual_seed(3))
    model = build(family, dtype)
    return model, fp8.quantize(model, tokens, scheme=scheme), tokens


def test_the_numbers_are_those_of_the_standard():
    assert [Fraction(x) for x in torch.arange(127, dtype=torch.uint8).view(E4M3).tolist()] == (
        NUMBERS
    )
    assert (len(NUMBERS), NUMBERS[1], NUMBERS[8], NUMBERS[-1]) == (
        127,
        Fraction(1, 512),
        Fraction(1, 64),
        448,
    )


def test_every_midpoint_and_what_lies_beyond_is_rounded_as_a_search_does():
    values = [float(low + high) / 2 for low, high in pairwise(NUMBERS)]
    values += [449.0, 480.0, 1e30, 2.0**-11, 2.0**-20, 0.0]
    values += [-value for value in values]
    found = encode(torch.tensor(values), torch.ones(1)).float().tolist()
    assert found == [float(nearest(Fraction(value))) for value in values]


@given(st.floats(-600, 600, width=32))
@settings(max_examples=30, deadline=None)
def test_rounding_is_to_the_nearest_number(value):
    found = encode(torch.tensor([value]), torch.ones(1)).float().item()
    assert found == float(nearest(Fraction(value)))


@pytest.mark.parametrize(
    ("scheme", "parts"),
    [
        ("static", [(300, 200)]),
        ("dynamic", [(1, 200)]),
        ("block", [(128, 128), (128, 72), (44, 128)]),
    ],
)
def test_what_shares_a_scale_is_the_scheme_s(scheme, parts):
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    codes, scales = fp8.round_weight(weight, scheme)
    assert list(scales.shape) == {"static": [1], "dynamic": [300, 1], "block": [3, 2]}[scheme]
    for height, width in parts:
        # The last of its kind: narrower ones lie at the end.
        rows = slice(300 - 44, 300) if height == 44 else slice(0, height)
        columns = slice(200 - 72, 200) if width == 72 else slice(0, width)
        scale = weight[rows, columns].abs().max() / 448
        expected = (weight[rows, columns] / scale).to(E4M3).float()
        assert torch.equal(codes[rows, columns].float(), expected)
        assert expected.abs().max() == 448


def test_a_weight_of_zeros_stays_one():
    for scheme in SCHEMES:
        codes, scales = fp8.round_weight(torch.zeros(16, 16), scheme)
        assert not codes.float().any()
        assert (scales > 0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_layer_multiplies_what_its_codes_stand_for(scheme):
    generator = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(200, 48)
    inputs = torch.randn(3, 5, 200, generator=generator)
    inputs[0, 0, 3] = 40  # beyond what calibration saw
    layer = fp8.fp8_linear(linear, scheme, torch.tensor(4.0) if scheme == "static" else None)
    found = layer(inputs)
    seen = inputs.clone()
    if scheme == "static":
        shared = torch.full((3, 5, 1), 4 / 448)
    elif scheme == "dynamic":
        shared = inputs.abs().amax(-1, keepdim=True) / 448
    else:
        halves = [half.abs().amax(-1, keepdim=True) for half in inputs.split([128, 72], -1)]
        shared = torch.cat([halves[0].expand(3, 5, 128), halves[1].expand(3, 5, 72)], -1) / 448
    seen = (inputs / shared).clamp(-448, 448).to(E4M3).float() * shared
    torch.testing.assert_close(found, F.linear(seen, layer.dequantize(), linear.bias))
    layer.use("held")
    assert torch.equal(layer(inputs), found)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_widths_that_are_no_whole_number_of_eights_are_layers_too(scheme):
    generator = torch.Generator().manual_seed(4)
    linear, inputs = torch.nn.Linear(203, 5), torch.randn(2, 203, generator=generator)
    linear.weight.data = torch.randn(5, 203, generator=generator) / 16
    layer = fp8.fp8_linear(linear, scheme, torch.tensor(4.0) if scheme == "static" else None)
    assert layer.dequantize().shape == layer.weight_codes.shape == (5, 203)
    torch.testing.assert_close(layer(inputs), linear(inputs), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("scheme", ["static", "dynamic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pytorch_s_product_of_codes_is_the_simulated_one(scheme, dtype):
    """What runs on FP8 units, here by PyTorch's CPU form of the same operator."""
    linear = torch.nn.Linear(64, 32, bias=False, dtype=dtype)
    inputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(2)).to(dtype)
    layer = fp8.fp8_linear(linear, scheme, torch.tensor(3.0) if scheme == "static" else None)
    codes, scales = layer.round_inputs(inputs)
    try:
        made = scaled_product(codes, scales, layer.weight_codes, layer.scales.float(), dtype)
    except RuntimeError as error:
        if "only supports per-tensor scaling for CPU" not in str(error):
            raise
        pytest.skip(f"PyTorch {torch.__version__} has no scales by row on a CPU")
    assert made.dtype == dtype
    bar = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(made, layer(inputs), **bar)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sizes_are_those_of_bytes_and_scales(scheme):
    model, result, _ = rounded(scheme)
    saved = 0
    for layer in quantized_linears(model).values():
        n_out, n_in = layer.out_features, layer.in_features
        n_scales = {"static": 2, "dynamic": n_out, "block": -(-n_out // 128) * -(-n_in // 128)}
        assert layer.packed_bytes == n_out * n_in + 4 * n_scales[scheme]
        saved += 4 * n_out * n_in - layer.packed_bytes
    assert result.size_before_bytes - result.size_after_bytes == saved
    assert result.latency_simulated


def test_a_change_of_dtype_touches_neither_codes_nor_scales():
    model, result, _ = rounded("static")
    model.to(torch.bfloat16)
    assert model_digest(model) == result.weights_sha256
    layer = model.model.layers[0].mlp.down_proj
    assert (layer.scales.dtype, layer.input_scale.dtype) == (torch.float32, torch.float32)


def test_fixed_scales_are_those_of_the_largest_inputs_of_the_unrounded_model():
    model, _, tokens = rounded("static")
    original, largest = build(), {}
    for name, linear in architecture_of(original).named_linears(original):
        linear.register_forward_pre_hook(
            lambda _, args, name=name: largest.update({name: args[0].abs().max() / 448})
        )
    logits(original, tokens)
    for name, layer in quantized_linears(model).items():
        torch.testing.assert_close(layer.input_scale, largest[name].reshape(1))


def test_only_fixed_scales_need_data_and_unknown_schemes_are_refused(make_model):
    assert [QUANTIZERS[f"fp8_{s}"].calibrated for s in SCHEMES] == [True, False, False]
    with pytest.raises(UsageError, match="calibration data"):
        fp8.quantize(make_model(), scheme="static")
    with pytest.raises(UsageError, match="unknown FP8 scheme 'tensor'"):
        fp8.quantize(make_model(), scheme="tensor")
    with pytest.raises(UsageError, match="no kernel 'int4_cpu'"):
        fp8.fp8_linear(torch.nn.Linear(16, 16), "dynamic").use("int4_cpu")
    if not find_spec("triton"):
        with pytest.raises(UsageError, match="needs the package triton"):
            fp8.fp8_linear(torch.nn.Linear(16, 16), "dynamic").use("triton")


@pytest.mark.parametrize(("scheme", "family"), [("static", "opt"), ("dynamic", "mixtral")])
def test_a_saved_model_is_read_back_bit_by_bit(scheme, family, tmp_path):
    model, result, tokens = rounded(scheme, family, torch.bfloat16)
    checkpoint.save(model, tmp_path)
    back = checkpoint.load(tmp_path)
    assert model_digest(back) == result.weights_sha256
    assert torch.equal(logits(back, tokens), logits(model, tokens))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_transformers_with_compressed_tensors_computes_the_same_logits(scheme, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    model, result, tokens = rounded(scheme, "qwen2")
    checkpoint.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype="auto", quantization_config=CompressedTensorsConfig(run_compressed=False)
    )
    assert torch.equal(logits(theirs, tokens), logits(model, tokens))
    assert model_digest(checkpoint.load(tmp_path)) == result.weights_sha256


def edited(folder, change):
    config = json.loads((folder / "config.json").read_text())
    (group,) = config["quantization_config"]["config_groups"].values()
    change(group)
    (folder / "config.json").write_text(json.dumps(config))


def test_what_the_reader_does_not_follow_is_named(tmp_path):
    model, _, _ = rounded("static")
    checkpoint.save(model, tmp_path)
    edited(tmp_path, lambda group: group["input_activations"].update(dynamic=True))
    with pytest.raises(BenchsuiteError, match="dynamic of its input_activations is True"):
        checkpoint.load(tmp_path)
    edited(tmp_path, lambda group: group["input_activations"].update(dynamic=False, type="int"))
    with pytest.raises(BenchsuiteError, match="type of its input_activations is 'int'"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_without_fixed_scales_or_with_codes_that_are_no_number_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    model, _, _ = rounded("static")
    checkpoint.save(model, tmp_path)
    file = tmp_path / "model.safetensors"
    state, name = load_file(file), "model.layers.1.mlp.up_proj"
    save_file({k: v for k, v in state.items() if k != f"{name}.input_scale"}, file)
    with pytest.raises(BenchsuiteError, match=f"{name}: missing input_scale"):
        checkpoint.load(tmp_path)
    bad = state[f"{name}.weight"].view(torch.uint8).clone()
    bad[0, 0] = 0x7F
    save_file(state | {f"{name}.weight": bad.view(E4M3)}, file)
    with pytest.raises(BenchsuiteError, match="weight is not all finite"):
        checkpoint.load(tmp_path)


def test_narrower_groups_of_inputs_run_and_are_not_saved(tmp_path):
    model = build(intermediate_size=192)
    apply("fp8_block", model, None, seed=0, progress=None)
    with pytest.raises(UsageError, match=r"narrower last group of 128 inputs \(192.*down_proj"):
        checkpoint.save(model, tmp_path)


# --- llm-compressor


@pytest.mark.stress
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_codes_and_scales_are_llm_compressor_s(scheme, dtype, monkeypatch, tmp_path):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization.lifecycle.forward import quantize as their_codes
    from transformers import AutoModelForCausalLM

    path = embedded.path("tiny_llama_1m")
    original = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    batch = torch.randint(0, 2048, (8, 128), generator=torch.Generator().manual_seed(0))
    ours = copy.deepcopy(original)
    fp8.quantize(ours, batch, scheme=scheme)
    preset = {"static": "FP8", "dynamic": "FP8_DYNAMIC", "block": "FP8_BLOCK"}[scheme]
    theirs = oneshot(copy.deepcopy(original), preset, batch, monkeypatch, tmp_path)
    equal, errors = [], []
    for name, layer in quantized_linears(ours).items():
        assert isinstance(layer, Fp8Linear)
        other = theirs.get_submodule(name)
        grid, weight = other.quantization_scheme.weights, other.weight.data
        assert torch.equal(layer.scales, other.weight_scale.data.reshape(layer.scales.shape))
        codes = their_codes(weight, other.weight_scale, None, grid, dtype=E4M3)
        equal.append((codes.float() == layer.weight_codes.float()).double().mean())
        if scheme == "static":
            # Sums over other batches differ in the last bits, which then move roundings.
            torch.testing.assert_close(layer.input_scale, other.input_scale.data)
            layer.input_scale.copy_(other.input_scale)
        rounded = Fp8Linear(codes, layer.scales, scheme=scheme).dequantize(torch.float32)
        ours_rounded = layer.dequantize(torch.float32)
        errors.append((ours_rounded - weight).norm() / (rounded - weight).norm())
    if dtype == torch.bfloat16:  # it divides in bfloat16, which rounds a weight twice
        assert min(equal) > 0.9
        assert max(errors) <= 1
        return
    assert min(equal) == 1
    assert torch.equal(logits(theirs, batch[:2]), logits(ours, batch[:2]))
    theirs.save_pretrained(tmp_path / "theirs")
    assert model_digest(checkpoint.load(tmp_path / "theirs")) == model_digest(ours)
