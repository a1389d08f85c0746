"""The cache alone: what an attention reads of keys and values, and what stays as it is."""

import pytest
import torch

from benchsuite.engines import serving
from benchsuite.errors import UsageError
from benchsuite.quantizers import cache, checkpoint
from benchsuite.quantizers.registry import CACHES, QUANTIZERS, apply
from benchsuite.studies.quantizers import report
from tests.quantizers.conftest import build, logits

BOUNDS = {"fp8_plain": 0.04, "fp8_tensor": 0.04, "fp8_head": 0.04, "int8": 0.01, "int4": 0.1}


def strong(family="llama", **changes):
    """A model whose attention decides something, and keys that differ from head to head."""
    model = build(family, torch.float32, **changes)
    for layer in model.base_model.layers if family != "opt" else model.model.decoder.layers:
        for linear, factor in (("q_proj", 3.0), ("k_proj", 3.0), ("v_proj", 4.0)):
            getattr(layer.self_attn, linear).weight.data *= factor
        layer.self_attn.k_proj.weight.data[: len(layer.self_attn.k_proj.weight) // 2] *= 2
    return model


@pytest.mark.parametrize("numbers", cache.NUMBERS)
def test_weights_stay_and_the_outputs_are_near(numbers, tokens):
    model, original = strong(), strong()
    result = cache.quantize(model, tokens, numbers=numbers)
    found, expected = logits(model, tokens), logits(original, tokens)
    assert 1e-4 < (found - expected).norm() / expected.norm() < BOUNDS[numbers]
    for (name, ours), theirs in zip(model.named_parameters(), original.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert result.layers == []
    assert result.latency_simulated
    assert result.compression_ratio == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("numbers", cache.NUMBERS)
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_generating_with_a_cache_reads_what_one_pass_reads(numbers, family, tokens):
    model = strong(family)
    cache.quantize(model, tokens, numbers=numbers)
    whole = logits(model, tokens[:2])
    with torch.no_grad():
        begun = model(input_ids=tokens[:2, :20], use_cache=True)
        kept, rows = begun.past_key_values, [begun.logits]
        for place in range(20, 26):
            step = model(input_ids=tokens[:2, place : place + 1], past_key_values=kept)
            rows.append(step.logits)
    torch.testing.assert_close(torch.cat(rows, 1), whole[:, :26], rtol=1e-4, atol=1e-4)


def test_fixed_scales_are_the_largest_that_the_unrounded_model_makes(tokens):
    """By transformers' own cache; and one for each head is no coarser than one for all."""
    model, original = strong(), strong()
    with torch.no_grad():
        kept = original(input_ids=tokens, use_cache=True).past_key_values
    cache.quantize(model, tokens, numbers="fp8_head")
    shared = strong()
    cache.quantize(shared, tokens, numbers="fp8_tensor")
    for number, layer in enumerate(kept.layers):
        for name, held in (("keys", layer.keys), ("values", layer.values)):
            largest = held.abs().amax((0, 2, 3))
            own = getattr(model.model.layers[number].self_attn.key_value_rounding, name).scale
            torch.testing.assert_close(own.flatten() * 448, largest, rtol=1e-4, atol=1e-6)
            one = getattr(shared.model.layers[number].self_attn.key_value_rounding, name).scale
            torch.testing.assert_close(one.flatten() * 448, largest.amax()[None], rtol=1e-4, atol=0)


@pytest.mark.parametrize("numbers", ["fp8_plain", "fp8_tensor"])
def test_e4m3_is_the_nearest_of_its_numbers_and_cut_off_beyond(numbers):
    layer = cache.Rounder(numbers)
    if numbers in cache.FIXED:
        layer(torch.full((1, 1, 1, 1), 448.0 / 4))
        layer.measuring = False
    scale = 1.0 if layer.scale is None else layer.scale.item()
    assert scale == (1 if numbers == "fp8_plain" else 0.25)
    octets = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    every = octets[torch.isfinite(octets)].unique() * scale
    x = torch.linspace(-600, 600, 2001).view(1, 1, 1, -1) * scale
    found = layer(x).flatten()
    nearest = (x.flatten()[:, None] - every).abs().amin(1)
    torch.testing.assert_close((x.flatten() - found).abs(), nearest)
    assert found.max() == 448 * scale


def test_bits_count_scales(tokens):
    found = {}
    for numbers in cache.NUMBERS:
        result = cache.quantize(build(), tokens, numbers=numbers)
        found[numbers] = tuple(result.recorded.values())
    in_all = 2 * 2 * 2 * 32  # keys and values, two layers, two heads of 32
    assert found == {
        "fp8_plain": (8, in_all),
        "fp8_tensor": (8, in_all),
        "fp8_head": (8, in_all),
        "int8": (8.5, in_all * 8.5 / 8),
        "int4": (5, in_all * 5 / 8),
    }


def test_what_cannot_be_done_is_named(tmp_path):
    with pytest.raises(UsageError, match="unknown cache 'fp6'"):
        cache.quantize(build(), numbers="fp6")
    with pytest.raises(UsageError, match="needs calibration data"):
        cache.quantize(build(), numbers="fp8_head")
    model = build()
    cache.quantize(model, numbers="int4")
    with pytest.raises(UsageError, match="no format that is written holds a rounded cache"):
        checkpoint.save(model, tmp_path / "saved")
    assert "rounded cache" in serving.write(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_caches_are_ranked_apart_by_their_width():
    kinds = {name: (report.kind(name), report.precision(name)) for name in CACHES}
    assert kinds == {
        "kv_fp8_plain": ("KV8", "FP8"),
        "kv_fp8_tensor": ("KV8", "FP8"),
        "kv_fp8_head": ("KV8", "FP8"),
        "kv_int8": ("KV8", "INT8"),
        "kv_int4": ("KV4", "INT4"),
    }
    for name in CACHES:
        batch = torch.zeros(1, 8, dtype=torch.int64) if QUANTIZERS[name].calibrated else None
        assert apply(name, build(), batch, seed=0, progress=None).recorded["cache_bits"] <= 8.5
