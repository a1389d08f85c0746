"""Fused blocks give the numbers and the gradients of plain operations, dropout included.

On a GPU, or by Triton's interpreter: TRITON_INTERPRET=1 (tests/test_kernels.py runs it so).
"""

import os
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from benchsuite.latent import fused
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.kava import METHOD as KAVA
from tests.latent.conftest import network

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

pytestmark = pytest.mark.skipif(
    not find_spec("triton") or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs a CUDA GPU, or TRITON_INTERPRET=1 with Triton",
)
FEW = 1 if INTERPRETED else 8  # problems; the interpreter takes half a minute for three
WIDTH, HEADS, KV_HEADS, GATED, RANK, N = 56, 4, 2, 40, 3, 11
WIDTHS = {
    "q_proj": (WIDTH, HEADS * 8),
    "k_proj": (WIDTH, KV_HEADS * 8),
    "v_proj": (WIDTH, KV_HEADS * 8),
    "o_proj": (HEADS * 8, WIDTH),
    "gate_proj": (WIDTH, GATED),
    "up_proj": (WIDTH, GATED),
    "down_proj": (GATED, WIDTH),
}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Let what runs by the interpreter count as running on a GPU."""
    if INTERPRETED:
        monkeypatch.setattr(fused, "_runs_on", lambda _: not fused._PLAIN.get())


@pytest.fixture
def short(config):
    """As little thought as has all parts."""
    return config.changed({"latent": {"n_latents": 2, "passes": 2}})


@pytest.fixture
def kernels():
    from benchsuite.latent import training_kernels

    return training_kernels


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE)


def dropout(kernels, p=0.25, times=0.5, seed=5):
    return kernels.Dropout.of(torch.tensor([seed], device=DEVICE), p, times)


def block(kernels):
    """Return a block whose adapters are its own float32 leaves."""
    layers = {
        name: fused.Adapted(
            drawn(out, into, seed=i) / 4,
            drawn(out, seed=10 + i),
            drawn(RANK, into, seed=20 + i).requires_grad_(),
            drawn(out, RANK, seed=30 + i).requires_grad_(),
        )
        for i, (name, (into, out)) in enumerate(WIDTHS.items())
    }
    angles = drawn(N, 4, seed=41)
    angles = torch.cat([angles, angles], -1)
    norms = drawn(WIDTH, seed=42), drawn(WIDTH, seed=43)
    both = angles.cos(), angles.sin()
    return fused.Block(layers, norms, (1e-5, 1e-6), both, dropout(kernels), 21)


class Plain:
    """A block in float64 by autograd's operations, with the same elements dropped."""

    def __init__(self, kernels, of):
        self.of, self._kernels = of, kernels
        self.adapters = {
            name: [t.detach().double().requires_grad_() for t in (each.down, each.up)]
            for name, each in of.layers.items()
        }

    def layer(self, name, x):
        each, (down, up) = self.of.layers[name], self.adapters[name]
        site = self.of.site + fused.LAYERS.index(name)
        mask = self._kernels.dropped(torch.ones(x.shape, device=DEVICE), self.of.how, site)
        out = F.linear(x, each.weight.double(), each.bias.double())
        return out + x * mask.double() @ down.T @ up.T

    def norm(self, x, which):
        scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.of.eps[which])
        return scaled * self.of.norms[which].double()

    def rotated(self, x):
        cos, sin = (angle.double()[:, None] for angle in self.of.angles)
        x = x.unflatten(-1, (-1, 8))
        turned = torch.cat([-x[..., 4:], x[..., :4]], -1)
        return x * cos + turned * sin

    def before(self, x, added):
        x = x + added
        h = self.norm(x, 0)
        query, key, value = (self.layer(name, h) for name in fused.ATTENTION)
        return x, self.rotated(query), self.rotated(key), value

    def after(self, x, attended):
        x = x + self.layer("o_proj", attended)
        h = self.norm(x, 1)
        return x, self.layer(
            "down_proj", F.silu(self.layer("gate_proj", h)) * self.layer("up_proj", h)
        )

    def trained(self, names):
        return [t for name in names for t in self.adapters[name]]


def trained(of, names):
    return [t for name in names for t in (of.layers[name].down, of.layers[name].up)]


def gradients(outputs, inputs):
    weighted = [(out * drawn(*out.shape, seed=50 + i)).sum() for i, out in enumerate(outputs)]
    return torch.autograd.grad(sum(weighted), inputs)


def near(found, expected, within=1e-5):
    for a, b in zip(found, expected, strict=True):
        a, b = a.detach(), b.detach()
        assert a.shape == b.shape
        assert float((a - b).norm()) <= within * float(b.norm())


def test_half_a_block_before_attention(kernels):
    of = block(kernels)
    x, added = drawn(N, WIDTH, seed=1).requires_grad_(), drawn(N, WIDTH, seed=2).requires_grad_()
    a, b = (t.detach().double().requires_grad_() for t in (x, added))
    names, plain = fused.ATTENTION, Plain(kernels, of)
    found = fused._BeforeAttention.apply(x, added, of, *trained(of, names))
    expected = plain.before(a, b)
    near(found, expected)
    near(
        gradients(found, [x, added, *trained(of, names)]),
        gradients(expected, [a, b, *plain.trained(names)]),
    )


def test_before_the_first_block_nothing_is_added(kernels):
    of, names = block(kernels), fused.ATTENTION
    x, plain = drawn(N, WIDTH, seed=1).requires_grad_(), Plain(kernels, of)
    a = x.detach().double().requires_grad_()
    found = fused._BeforeAttention.apply(x, None, of, *trained(of, names))
    expected = plain.before(a, 0)
    near(found, expected)
    near(
        gradients(found, [x, *trained(of, names)]),
        gradients(expected, [a, *plain.trained(names)]),
    )
    # Of embeddings that are frozen too, as a question's are.
    found = fused._BeforeAttention.apply(x.detach(), None, of, *trained(of, names))[1:]
    expected = plain.before(a.detach(), 0)[1:]
    near(gradients(found, trained(of, names)), gradients(expected, plain.trained(names)))


def test_half_a_block_after_attention(kernels):
    of = block(kernels)
    x = drawn(N, WIDTH, seed=1).requires_grad_()
    attended = drawn(N, HEADS * 8, seed=2).requires_grad_()
    a, b = (t.detach().double().requires_grad_() for t in (x, attended))
    names, plain = (*fused.OUTPUT, *fused.GATES, *fused.DOWN), Plain(kernels, of)
    found = fused._AfterAttention.apply(x, attended, of, *trained(of, names))
    expected = plain.after(a, b)
    near(found, expected)
    near(
        gradients(found, [x, attended, *trained(of, names)]),
        gradients(expected, [a, b, *plain.trained(names)]),
    )


def test_the_last_norm(kernels):
    x, added = (drawn(N, WIDTH, seed=i).requires_grad_() for i in (1, 2))
    a, b = (t.detach().double().requires_grad_() for t in (x, added))
    of = block(kernels)
    found = fused._Normed.apply(x, added, of.norms[0], 1e-5, of.how)
    expected = Plain(kernels, of).norm(a + b, 0)
    near([found], [expected])
    near(gradients([found], [x, added]), gradients([expected], [a, b]))


def test_dropout_keeps_its_share_and_its_mean_and_no_two_copies_are_alike(kernels):
    ones = torch.ones(64, 1024, device=DEVICE)
    how = dropout(kernels, p=0.1, times=1.0)
    copies = [kernels.dropped(ones, how, site) for site in range(3)]
    copies.append(kernels.dropped(ones, dropout(kernels, p=0.1, times=1.0, seed=6), 0))
    for copy in copies:
        dropped = float((copy == 0).float().mean())
        assert dropped == pytest.approx(0.1, abs=5 * (0.09 / ones.numel()) ** 0.5)
        assert float(copy.max()) == pytest.approx(1 / 0.9, rel=1e-4)
    for i, copy in enumerate(copies):
        for other in copies[:i]:
            both = float(((copy == 0) & (other == 0)).float().mean())
            assert both == pytest.approx(0.01, abs=5 * (0.01 / ones.numel()) ** 0.5)
    # Nor are the places of one: neighbours, halves of a word, words, rows.
    dropped = (copies[0] == 0).float()
    for shift in (1, 2, 3, 4, 8, 1024):
        flat = dropped.flatten()
        both = float((flat[shift:] * flat[:-shift]).mean())
        assert both == pytest.approx(0.01, abs=5 * (0.01 / ones.numel()) ** 0.5)


def test_without_dropout_a_copy_is_the_input_scaled(kernels):
    x = drawn(3, 40)
    assert torch.equal(kernels.dropped(x, dropout(kernels, p=0.0, times=0.5), 9), 0.5 * x)
    assert not kernels.dropped(x, dropout(kernels, p=1.0), 9).any()


@pytest.mark.parametrize("words", [50, 9001])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_nll_is_the_cross_entropy_of_float32_logits(words, dtype):
    logits = (8 * drawn(7, words)).to(dtype).requires_grad_()
    targets = torch.tensor([0, words - 1, 3, 4, 4, 5, 17], device=DEVICE)
    found = fused.nll(logits, targets)
    weights = drawn(7, seed=3)
    (gradient,) = torch.autograd.grad((found * weights).sum(), logits)
    wide = logits.detach().double().requires_grad_()
    expected = F.cross_entropy(wide, targets, reduction="none")
    (theirs,) = torch.autograd.grad((expected * weights).sum(), wide)
    assert (found.dtype, gradient.dtype) == (torch.float32, dtype)
    near([found], [expected], 1e-6)
    near([gradient], [theirs], 4e-3 if dtype == torch.bfloat16 else 1e-5)


def test_logits_that_want_no_gradient_and_float64_take_the_plain_operation():
    logits, targets = drawn(3, 50), torch.tensor([1, 2, 3], device=DEVICE)
    assert fused.nll(logits, targets).grad_fn is None
    wide = logits.double().requires_grad_()
    assert type(fused.nll(wide, targets).grad_fn).__name__ == "NllLossBackward0"


def reasoner(kind, dropout=0.0):
    """Return a network as a configuration with LoRA trains it: bfloat16, float32 adapters."""
    net = network(kind, lora_r=4, lora_dropout=dropout).float()
    net.lm.bfloat16()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.to(DEVICE).train()


def step(net, batch, config, bf16=True):
    net.zero_grad()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
        parts = KAVA.loss(net, batch, config, Moment(0.5, torch.Generator().manual_seed(0)))
    sum(parts.values()).backward()
    trained = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return {n: float(v.detach()) for n, v in parts.items()}, trained


def distance(found, expected):
    """Return how far gradients are from others, all as one vector."""
    assert found.keys() == expected.keys()
    apart = sum(float((found[n] - g).square().sum()) for n, g in expected.items())
    return (apart / sum(float(g.square().sum()) for g in expected.values())) ** 0.5


@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # the second has biases
def test_kavas_step_has_the_plain_ones_losses_and_gradients(
    kind, form, examples, short, monkeypatch
):
    """In float32, where nothing but the order of sums differs."""
    pytest.importorskip("peft")
    monkeypatch.setattr(fused, "DTYPE", torch.float32)
    net, batch = reasoner(kind).float(), form.batch(examples[:FEW])
    calls = count(monkeypatch)
    parts, found = step(net, batch, short, bf16=False)
    assert calls == [2] * 4  # passes over two blocks: question, latents, student, teacher
    with fused.plain_operations():
        plain_parts, plain = step(net, batch, short, bf16=False)
    assert len(calls) == 4
    assert parts == pytest.approx(plain_parts, rel=1e-5)
    assert distance(found, plain) <= 1e-4


@pytest.mark.skipif(INTERPRETED, reason="the interpreter cuts bfloat16 off instead of rounding it")
def test_in_bfloat16_a_step_is_near_the_plain_one(form, examples, config):
    pytest.importorskip("peft")
    net, batch = reasoner("llama"), form.batch(examples)
    parts, found = step(net, batch, config)
    with fused.plain_operations():
        plain_parts, plain = step(net, batch, config)
    for name in ("student", "teacher"):
        assert parts[name] == pytest.approx(plain_parts[name], rel=1e-3)
    assert parts == pytest.approx(plain_parts, rel=3e-2)
    assert distance(found, plain) <= 0.1


def test_no_two_layers_drop_by_the_same_numbers():
    pytest.importorskip("peft")
    net = reasoner("llama", dropout=0.3)
    x, angles = torch.zeros(1, 32, device=DEVICE), torch.zeros(1, 8, device=DEVICE)
    fused_blocks = fused.FusedBlocks(net.decoder.model, x, angles, angles)._blocks
    assert [block.site for block in fused_blocks] == [0, len(fused.LAYERS)]
    assert {block.how.dropped for block in fused_blocks} == {round(0.3 * 65536)}


def test_plain_operations_end():
    with fused.plain_operations():
        assert fused._PLAIN.get()
    assert not fused._PLAIN.get()


def count(monkeypatch):
    """Return a list to which every fused call of a decoder adds its number of blocks."""
    found, own = [], fused.FusedBlocks.__init__

    def init(self, model, *given):
        found.append(len(model.layers))
        own(self, model, *given)

    monkeypatch.setattr(fused.FusedBlocks, "__init__", init)
    return found


def test_dropout_follows_torchs_seed(form, examples, short, deterministic):
    pytest.importorskip("peft")
    net, batch, found = reasoner("llama", dropout=0.3), form.batch(examples[:FEW]), []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(step(net, batch, short))
    assert found[0][0] == found[2][0] != found[1][0]
    for name, gradient in found[0][1].items():
        assert torch.equal(gradient, found[2][1][name]), name
