"""SignRound: the paper's formulas written out again, and what learning is worth."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from benchsuite.quantizers import checkpoint, rtn, signround
from benchsuite.quantizers.grid import QuantizationGrid
from benchsuite.quantizers.linear import model_digest, quantized_linears
from benchsuite.quantizers.signround import LearnedLinear
from tests.quantizers.conftest import logits
from tests.quantizers.families import build as build_family


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_learning_begins_at_rounding_to_nearest(bits, sym):
    linear = nn.Linear(72, 24)  # the last group of 32 is narrower
    linear.weight.data[3] = 0
    linear.weight.data[5].abs_()  # one sign only
    grid = QuantizationGrid(bits, 32, sym)
    with torch.no_grad():
        found = LearnedLinear(linear, grid).parts()
    weight = linear.weight.detach()
    wanted = nearest_with_signs(weight, bits) if sym else grid.round_weight(weight)
    for part, expected in zip(found, wanted, strict=True):
        assert torch.equal(part, expected.float())


def nearest_with_signs(weight, bits):
    """Rounding to nearest, group by group: the end farther from 0 has code 0."""
    middle, codes, scales = 2 ** (bits - 1), [], []
    for group in weight.split(32, 1):
        low, high = group.amin(1).clamp(max=0), group.amax(1).clamp(min=0)
        far = torch.where(high < -low, low, high)
        far = torch.where(far == 0, 1, far)
        scale = (-far / middle).half().float()
        codes.append(((group / scale[:, None]).round() + middle).clamp(0, 2 * middle - 1))
        scales.append(scale)
    return (
        torch.cat(codes, 1),
        torch.stack(scales, 1),
        torch.full_like(torch.stack(scales, 1), middle),
    )


@pytest.mark.parametrize("sym", [True, False])
def test_a_layer_computes_the_same_while_it_is_learned_and_packed(sym):
    """With its bias, and of weights too small for a scale in half precision."""
    linear, inputs = nn.Linear(64, 8), torch.randn(3, 64)
    linear.bias.data.normal_(std=3)
    linear.weight.data[1] *= 1e-9
    learned = LearnedLinear(linear, QuantizationGrid(4, 32, sym))
    with torch.no_grad():
        learned.offset.uniform_(-0.5, 0.5)
        learned.high.uniform_(0.5, 1)
        found, expected = learned(inputs), learned.packed(linear)(inputs)
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, linear(inputs), atol=1e-2)


def test_what_was_best_is_kept_and_not_what_came_last(make_model, tokens):
    """One of two steps moves everything by a half, and what it finds is worse."""
    found = []
    for steps in (1, 2):
        model = make_model(num_hidden_layers=1)
        result = signround.quantize(model, tokens, bits=4, steps=steps, batch_size=len(tokens))
        (told,) = {tuple(layer.details.items()) for layer in result.layers}
        found.append((dict(told), result.weights_sha256))
    (one, nearest), (two, kept) = found
    assert one["first_loss"] == one["least_loss"] > 0
    assert two == one
    assert kept == nearest


def test_no_code_of_a_symmetric_grid_is_spared():
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    linear = nn.Linear(32, 64)
    linear.weight.data = weight
    with torch.no_grad():
        codes, scale, _ = LearnedLinear(linear, QuantizationGrid(4, 32)).parts()
    assert (scale < 0).any()
    assert (scale > 0).any()
    far = weight.abs().argmax(1, keepdim=True)
    assert codes.gather(1, far).unique().tolist() == [0]
    # Nothing of it is cut off: it is the code's own number, but for the scale's half precision.
    assert ((codes - 8) * scale).gather(1, far).allclose(weight.gather(1, far), rtol=1e-3)


def rounded(weight, offset, low, high, bits):
    """The paper's formula on an asymmetric grid, each row one group; gradients go straight on."""

    def straight(x):
        return x.round().detach() - x.detach() + x

    most = 2**bits - 1
    top = weight.amax(1, keepdim=True).clamp(min=0) * high
    bottom = weight.amin(1, keepdim=True).clamp(max=0) * low
    scale = (top - bottom) / most
    scale = scale.half().float().detach() - scale.detach() + scale
    zero = straight(-bottom / scale).clamp(0, most)
    codes = (straight(weight / scale + offset) + zero).clamp(0, most)
    return (codes - zero) * scale


def reference(model, tokens, *, bits, steps, batch_size, seed):
    """The first block by functional calls and PyTorch's own SGD and schedule, on signs."""
    block, generator = model.model.layers[0], torch.Generator().manual_seed(seed)
    names = [n for n, m in block.named_modules() if isinstance(m, nn.Linear)]
    weights = {n: block.get_submodule(n).weight.detach() for n in names}
    learned = {
        n: [
            torch.zeros_like(w).requires_grad_(),
            *(torch.ones(len(w), 1).requires_grad_() for _ in range(2)),
        ]
        for n, w in weights.items()
    }
    flat = [p for parameters in learned.values() for p in parameters]
    optimizer = torch.optim.SGD(flat, lr=1 / steps)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    hidden = model.model.embed_tokens(tokens).detach()
    positions = torch.arange(tokens.shape[1])[None]
    cos_sin = model.model.rotary_emb(hidden, positions)
    mask = torch.full((tokens.shape[1],) * 2, float("-inf")).triu(1)[None, None]

    def run(weights, samples):
        call = {"attention_mask": mask, "position_embeddings": cos_sin}
        return functional_call(
            block, {f"{n}.weight": w for n, w in weights.items()}, (hidden[samples],), call
        )

    best, kept = float("inf"), {}
    for _ in range(steps):
        samples = torch.randperm(len(tokens), generator=generator)[:batch_size]
        made = {n: rounded(w, *learned[n], bits) for n, w in weights.items()}
        with torch.no_grad():
            goal = run(weights, samples)
        loss = (run(made, samples) - goal).square().mean()
        if loss.item() < best:
            best, kept = loss.item(), {n: w.detach().clone() for n, w in made.items()}
        optimizer.zero_grad()
        loss.backward()
        for parameter in flat:
            parameter.grad.sign_()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for offset, *ends in learned.values():
                offset.clamp_(-0.5, 0.5)
                for end in ends:
                    end.clamp_(0, 1)
    return best, kept


def test_a_block_is_learned_as_the_paper_says(make_model, tokens):
    options = {"bits": 3, "steps": 12, "batch_size": 4, "seed": 9}
    best, expected = reference(make_model(num_hidden_layers=1), tokens, **options)
    model = make_model(num_hidden_layers=1)
    result = signround.quantize(model, tokens, group_size=-1, sym=False, **options)
    for name, weight in expected.items():
        got = model.model.layers[0].get_submodule(name).dequantize()
        # A last bit of a gradient may have the other sign where it is nearly nothing.
        assert (got - weight).abs().gt(1e-6).float().mean() < 0.01
    for layer in result.layers:
        assert layer.details["least_loss"] == pytest.approx(best, rel=1e-3)
        assert layer.details["least_loss"] < layer.details["first_loss"]


def test_codes_take_their_gradient_only_where_they_are_not_clipped():
    linear = nn.Linear(32, 8, bias=False)
    learned = LearnedLinear(linear, QuantizationGrid(3, 32))
    with torch.no_grad():
        learned.high.fill_(0.6)
        learned.low.fill_(0.6)
    inputs, upstream = torch.randn(5, 32), torch.randn(5, 8)
    (gradient,) = torch.autograd.grad(learned(inputs), learned.offset, upstream)
    codes, scale, _ = (part.detach() for part in learned.parts())
    free = (linear.weight / scale).round() + 4
    inside = (free >= 0) & (free <= 7)
    assert 0 < inside.float().mean() < 1
    expected = (upstream.t() @ inputs) * scale * inside
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(codes, free.clamp(0, 7))


@pytest.mark.parametrize(("bits", "blocks"), [(2, 1), pytest.param(3, 2, marks=pytest.mark.stress)])
def test_learned_rounding_is_nearer_than_nearest(bits, blocks, make_model, tokens):
    goal = logits(make_model(num_hidden_layers=blocks), tokens)
    learned, nearest = (make_model(num_hidden_layers=blocks) for _ in range(2))
    signround.quantize(learned, tokens, bits=bits, group_size=32, steps=20 * blocks)
    rtn.quantize(nearest, bits=bits, group_size=32)
    errors = [(logits(model, tokens) - goal).norm() for model in (learned, nearest)]
    assert errors[0] < 0.85 * errors[1]


@pytest.mark.parametrize("family", ["opt", "qwen3_moe", "gemma2"])
def test_other_families_are_learned_too(family, make_model, tokens):
    model = make_model("opt") if family == "opt" else build_family(family)
    result = signround.quantize(model, tokens, group_size=32, steps=3)
    assert len(result.layers) == len(quantized_linears(model)) > 0
    assert not [m for m in model.modules() if isinstance(m, LearnedLinear)]


def test_a_learned_model_is_saved_as_any_and_repeats(make_model, tokens, tmp_path):
    shape = {"dtype": torch.bfloat16, "num_hidden_layers": 1}
    model = make_model(**shape)
    given = [(p, p.clone()) for p in model.parameters()]
    state = torch.get_rng_state()
    options = {"bits": 2, "group_size": 32, "steps": 10, "batch_size": 3}
    first = signround.quantize(model, tokens, seed=1, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and torch.equal(p, before) for p, before in given)
    checkpoint.save(model, tmp_path)
    assert model_digest(checkpoint.load(tmp_path)) == first.weights_sha256
    again, other = (
        signround.quantize(make_model(**shape), tokens, seed=seed, **options) for seed in (1, 2)
    )
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
