"""Fused forwards: the same numbers as transformers' own, and nothing left behind."""

import importlib
import math

import pytest
import torch
from torch import nn

from benchsuite.models.fused import FAMILIES, fused_forwards, replaced_forwards
from tests.models import tiny

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class Twins:
    """The chains in plain torch, counted: what the kernels compute, rounding by rounding."""

    def __init__(self):
        self.calls = {"rms_norm": 0, "rotate": 0, "gated": 0}

    def rms_norm(self, x, weight, eps):
        self.calls["rms_norm"] += 1
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        return weight * (wide * scale).to(x.dtype)

    def rotate(self, q, k, cos, sin):
        self.calls["rotate"] += 1
        return self._turned(q, cos, sin), self._turned(k, cos, sin)

    def _turned(self, x, cos, sin):
        half = x.shape[-1] // 2
        cos, sin = cos[:, None], sin[:, None]
        first = x[..., :half] * cos[..., :half] + -x[..., half:] * sin[..., :half]
        second = x[..., half:] * cos[..., half:] + x[..., :half] * sin[..., half:]
        return torch.cat((first, second), -1)

    def gated(self, gate, up):
        self.calls["gated"] += 1
        return nn.functional.silu(gate) * up


def ids(*shape, seed=0):
    return torch.randint(300, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device, dtype)


def source_of(family):
    return importlib.import_module(f"transformers.models.{family}.modeling_{family}")


def forwards(model):
    """Everything that a replacement touches, by the object it is now."""
    instances = [name for name, module in model.named_modules() if "forward" in vars(module)]
    return instances, [source_of(family).apply_rotary_pos_emb for family in FAMILIES]


@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_chain_is_replaced_by_what_gives_the_same_bits(family, dtype):
    model, tokens = tiny.model(family, dtype=dtype), ids(2, 40)
    expected, twins = model(tokens).logits, Twins()
    with replaced_forwards(model, twins):
        assert torch.equal(model(tokens).logits, expected)
    of_heads = 2 if family == "qwen3" else 0
    assert twins.calls == {"rms_norm": 2 * (2 + of_heads) + 1, "rotate": 2, "gated": 2}


@torch.no_grad()
def test_nothing_is_left_behind_even_after_an_error():
    model, tokens = tiny.model(), ids(1, 20)
    before, expected = forwards(model), model(tokens).logits
    with replaced_forwards(model, Twins()):
        assert forwards(model) != before
    assert forwards(model) == before
    with pytest.raises(RuntimeError, match="stop"), replaced_forwards(model, Twins()):
        raise RuntimeError("stop")
    assert forwards(model) == before
    assert torch.equal(model(tokens).logits, expected)


def of_another_class(model):
    for name, module in list(model.named_modules()):
        if name.endswith("norm"):
            module.__class__ = type("Other", (type(module),), {})


def with_a_replaced_forward(model):
    for name, module in model.named_modules():
        if name.endswith("norm"):
            module.forward = module.forward


def with_another_gate(model):
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.GELU()


@torch.no_grad()
@pytest.mark.parametrize(
    ("change", "chain"),
    [
        (of_another_class, "rms_norm"),
        (with_a_replaced_forward, "rms_norm"),
        (with_another_gate, "gated"),
        (nn.Module.double, "rms_norm"),
        (nn.Module.double, "rotate"),
        (nn.Module.double, "gated"),
    ],
)
def test_what_is_not_known_is_left_alone(change, chain):
    model, tokens, twins = tiny.model(), ids(1, 20), Twins()
    change(model)
    expected = model(tokens).logits
    with replaced_forwards(model, twins):
        assert torch.equal(model(tokens).logits, expected)
    assert twins.calls[chain] == 0
    assert change is nn.Module.double or sum(twins.calls.values()) > 0


def test_other_families_are_left_alone():
    model = tiny.model("opt")
    before = forwards(model)
    with replaced_forwards(model, Twins()):
        assert forwards(model) == before


def test_gradients_flow_as_without():
    model, tokens, twins = tiny.model(), ids(1, 20), Twins()
    model(tokens).logits.sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    with replaced_forwards(model, twins):
        model(tokens).logits.sum().backward()
    assert all(map(torch.equal, (p.grad for p in model.parameters()), expected))
    assert not any(twins.calls.values())


def test_a_model_on_the_cpu_is_left_as_it_is():
    model = tiny.model()
    before = forwards(model)
    with fused_forwards(model):
        assert forwards(model) == before


@needs_cuda
@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 7), (3, 64), (5, 2, 80), (2, 3, 5, 128), (9, 4096), (2, 5120)]
)
def test_a_norm_differs_by_one_rounding_at_most(shape, dtype):
    from benchsuite.models import fused_kernels

    x = normal(*shape, dtype=dtype, device="cuda") * 3
    norm = source_of("llama").LlamaRMSNorm(shape[-1], eps=1e-5).to("cuda", dtype)
    norm.weight.copy_(1 + normal(shape[-1], seed=1) / 4)
    ours, theirs = fused_kernels.rms_norm(x, norm.weight, 1e-5), norm(x)
    # Two roundings follow the float32 sum: each may go the other way.
    torch.testing.assert_close(ours, theirs, rtol=2 * torch.finfo(dtype).eps + 1e-6, atol=1e-6)
    if dtype != torch.float32:
        assert (ours != theirs).float().mean() < 0.01


@needs_cuda
@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "width", "n_angles"),
    [((1, 1), 6, 1), ((4, 2), 64, 2), ((40, 40), 80, 1), ((28, 4), 128, 2), ((32, 32), 128, 1)],
)
def test_a_rotation_has_equal_bits_and_equal_strides(heads, width, n_angles, dtype):
    from benchsuite.models import fused_kernels

    n_tokens = 37
    q, k = (
        normal(2, n_tokens, n, width, dtype=dtype, device="cuda", seed=n).transpose(1, 2)
        for n in heads
    )
    angles = normal(n_angles, n_tokens, width, device="cuda", seed=99) * 100
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    expected = source_of("llama").apply_rotary_pos_emb(q, k, cos, sin)
    for inputs in ((q, k), (q.contiguous(), k)):
        ours = fused_kernels.rotate(*inputs, cos, sin)
        assert all(map(torch.equal, ours, expected))
        assert [t.stride() for t in ours] == [t.stride() for t in inputs]
    with_gaps = torch.cat((q, q), -1)[..., :width]
    assert torch.equal(fused_kernels.rotate(with_gaps, k, cos, sin)[0], expected[0])


@needs_cuda
@torch.no_grad()
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (2, 5, 11008), (1, 4096)])
def test_a_gate_has_equal_bits(shape, dtype):
    from benchsuite.models import fused_kernels

    gate = normal(*shape, dtype=dtype, device="cuda") * 6
    up = normal(*shape, dtype=dtype, device="cuda", seed=1)
    assert torch.equal(fused_kernels.gated(gate, up), nn.functional.silu(gate) * up)
    extreme = torch.tensor([-1e4, -90, -0.0, 0.0, 90, 1e4, math.inf, -math.inf, math.nan])
    extreme = extreme.to("cuda", dtype)
    theirs = nn.functional.silu(extreme) * extreme.flip(0)
    ours = fused_kernels.gated(extreme, extreme.flip(0))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@needs_cuda
@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_on_cuda_gives_nearly_its_own_logits_and_the_same_every_time(family):
    model, tokens = tiny.model(family, dtype=torch.float16).cuda(), ids(3, 200).cuda()
    own = model(tokens).logits
    with fused_forwards(model):
        assert forwards(model)[0]
        fused, again = model(tokens).logits, model(tokens).logits
    assert torch.equal(fused, again)
    assert (fused - own).float().norm() < 1e-2 * own.float().norm()
    assert torch.equal(model(tokens).logits, own)
