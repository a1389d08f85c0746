"""All experts at once are the experts one by one, up to last bits, or are left alone."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from benchsuite.models.architecture import architecture_of
from benchsuite.models.experts import Experts, lying_together, separate_experts
from benchsuite.models.pool import fresh_tree
from benchsuite.models.replicas import Counterparts, replica
from benchsuite.quantizers import checkpoint
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import QuantizedLinear, model_digest
from benchsuite.quantizers.registry import apply
from tests.quantizers.conftest import logits
from tests.quantizers.families import EXPERTS, build

CUDA = torch.cuda.is_available()
TOLERANCE = {"rtol": 2e-2, "atol": 2e-2}  # of numbers of size one in bfloat16


def model_of(family, method, tokens=None, dtype=torch.bfloat16, device="cpu", **changes):
    """A random model whose experts are apart, packed by ``method`` unless that is none."""
    model = build(family, **changes)
    for parameter in model.parameters():  # rotary frequencies stay in float32
        parameter.data = parameter.data.to(dtype)
    model.to(device)
    architecture_of(model)
    if method != "none":
        apply(method, model, tokens, seed=0, progress=None, group_size=32)
    return model


def experts_of(model, block=0) -> Experts:
    return model.model.layers[block].mlp.experts


def share(experts, n_tokens=40, silent=(1,), dtype=torch.bfloat16, device="cpu"):
    """Hidden states and who is sent what, as `Experts.forward` sorts it; the silent get nothing."""
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(n_tokens, 64, generator=generator).to(device, dtype)
    speaking = torch.tensor([i for i in range(len(experts)) if i not in silent])
    chosen = speaking[torch.randint(len(speaking), (2 * n_tokens,), generator=generator)]
    sent, order = chosen.to(device).sort(stable=True)
    return hidden, sent, order // 2


@torch.no_grad()
def assert_at_once(experts, **options):
    given = share(experts, **options)
    found, expected = experts.at_once(*given), experts.one_by_one(*given)
    assert found is not None
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize("method", ["none", "rtn_w4", "rtn_w8"])
@pytest.mark.parametrize("kernel", ["dequantize", "held"])
def test_all_at_once_are_each_by_itself(family, method, kernel):
    experts = experts_of(model_of(family, method, num_hidden_layers=1))
    with using_kernel(experts, kernel):
        assert_at_once(experts)
        assert_at_once(experts, silent=(0, 3))
        assert_at_once(experts, silent=(), n_tokens=4)


@pytest.mark.parametrize(
    "method", ["rtn_w4_asym", "gptq_w4_act", "hqq_w4", "nvfp4_w4a16", "gguf_q4_0", "wanda_2of4"]
)
def test_zero_points_act_order_and_other_weights_too(method, tokens):
    experts = experts_of(model_of("qwen3_moe", method, tokens, num_hidden_layers=1))
    for kernel in ("dequantize", "held"):
        with using_kernel(experts, kernel):
            assert_at_once(experts)


def test_a_checkpoint_s_experts_too(tmp_path):
    model = model_of("qwen3_moe", "rtn_w4")
    checkpoint.save(model, tmp_path)
    read = checkpoint.load(tmp_path)
    assert model_digest(read) == model_digest(model)
    assert_at_once(experts_of(read, 1), dtype=experts_of(read, 1)[0].gate_proj.dtype)


@torch.no_grad()
def test_what_is_stored_stays_as_it_is_and_what_is_held_goes():
    model = model_of("qwen3_moe", "rtn_w4", num_hidden_layers=1)
    experts = experts_of(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    digest, linear = model_digest(model), experts[3].up_proj
    with using_kernel(model, "held"):
        assert_at_once(experts)
        held = linear._operand
        assert torch.equal(held, linear.dequantize())
        # One tensor for all, which the next call finds.
        assert held.untyped_storage().nbytes() == 4 * held.nbytes
        assert_at_once(experts)
        assert linear._operand is held
        assert model_digest(model) == digest
        for twin in (fresh_tree(model), replica(model, Counterparts(torch.device("cpu")))):
            assert_at_once(experts_of(twin))
            assert experts_of(twin)[3].up_proj._operand is not held
    assert linear._operand is None
    state = model.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in before)
    assert model_digest(model) == digest


@torch.no_grad()
def test_experts_that_are_not_alike_are_left_to_run_one_by_one(tokens):
    model = model_of("qwen3_moe", "rtn_w4", num_hidden_layers=1)
    experts = experts_of(model)
    given = share(experts)
    for hooked in (experts[2], experts[2].up_proj):
        handle = hooked.register_forward_pre_hook(lambda module, args: None)
        assert experts.at_once(*given) is None
        handle.remove()
    assert experts.at_once(*given) is not None
    odd = experts[1].down_proj
    for other in (
        nn.Linear(32, 64, bias=False, dtype=torch.bfloat16),
        experts_of(model_of("qwen3_moe", "rtn_w8", num_hidden_layers=1))[1].down_proj.use("held"),
        QuantizedLinear(
            odd.codes,
            odd.scales,
            None,
            bits=4,
            group_size=32,
            bias=torch.ones(64, dtype=torch.bfloat16),
            dtype=torch.bfloat16,
        ),
    ):
        experts[1].down_proj = other
        assert experts.at_once(*given) is None
    experts[1].down_proj = odd.use("held")
    assert experts.at_once(*given) is None
    for method in ("fp8_dynamic", "smoothquant_w8a8", "mxfp4_w4a4"):  # inputs are rounded too
        rounded = experts_of(model_of("qwen3_moe", method, tokens, num_hidden_layers=1))
        assert rounded.at_once(*given) is None


def test_what_lies_together_is_seen_as_a_whole_and_nothing_else_is():
    whole = torch.arange(48.0).view(4, 2, 6)
    assert torch.equal(lying_together(list(whole)), whole)
    halves = [one[:, 3:] for one in whole]
    found = lying_together(halves)
    assert torch.equal(found, whole[:, :, 3:])
    assert found.data_ptr() == halves[0].data_ptr()
    assert torch.equal(lying_together([whole[1]]), whole[1:2])
    for apart in (
        [whole[0], whole[1], whole[3]],
        [whole[1], whole[0]],
        [whole[0], whole[0]],
        [whole[0], whole[1].clone()],
        [whole[0], whole[1].t().contiguous().t()],
    ):
        assert lying_together(apart) is None


@torch.no_grad()
def assert_host_waits_for_nothing(experts):
    """As it does one by one, to know how much each expert is sent."""
    hidden = torch.randn(40, 64, dtype=torch.bfloat16, device="cuda")
    weights, chosen = torch.randn(40, len(experts), device="cuda").softmax(-1).topk(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        experts(hidden, chosen, weights)
        with separate_experts(experts), pytest.raises(RuntimeError, match="synchroniz"):
            experts(hidden, chosen, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")
@pytest.mark.parametrize("family", EXPERTS)
@pytest.mark.parametrize(
    "method", ["none", "rtn_w4", "rtn_w8", "rtn_w4_asym", "gptq_w4_act", "nvfp4_w4a16"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_gpu_runs_all_experts_at_once(family, method, dtype, tokens):
    tokens = tokens.to("cuda")
    # One block: of a second one the router would turn last bits into other experts.
    model = model_of(family, method, tokens, dtype, "cuda", num_hidden_layers=1)
    experts = experts_of(model)
    fast = torch.cuda.get_device_capability()[0] in (9, 10) and dtype == torch.bfloat16
    for kernel in ("dequantize", "held", "triton"):
        with using_kernel(model, kernel) if method != "none" else nullcontext():
            for silent in ((), (1,), (0, 3)):
                assert_at_once(experts, silent=silent, dtype=dtype, device="cuda")
            if fast:
                assert_host_waits_for_nothing(experts)
            found = logits(model, tokens)
            with separate_experts(model):
                expected = logits(model, tokens)
                one = logits(model, tokens[:1, :1])
            assert not experts.separate
            # Two tokens are sent here, to two of four experts: one by one, to the same bits.
            assert torch.equal(logits(model, tokens[:1, :1]), one)
            tolerance = 0.1 if dtype == torch.bfloat16 else 0.02
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
