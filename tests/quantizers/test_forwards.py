"""Forwards of quantized models that may become CUDA graphs: nothing in them comes from the host."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchsuite.quantizers import apply
from tests.decoding import slot_models

METHODS = (
    "awq_w4",
    "fp8_block",
    "fp8_dynamic",
    "fp8_static",
    "gguf_iq4_nl",
    "gguf_q4_k_m",
    "gptq_w4_act",
    "hqq_w4",
    "kv_fp8_head",
    "kv_int4",
    "mxfp4_mrgptq_w4a4",
    "nvfp4_mrgptq_w4a4",
    "nvfp4_w4a16",
    "quarot_w4a4kv4",
    "smoothquant_w8a8",
)


class Constants(TorchDispatchMode):
    """Counts tensors made of Python's numbers: on a GPU each is a copy from the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket is torch.ops.aten.lift_fresh
        return func(*args, **(kwargs or {}))


def test_a_tensor_of_numbers_is_counted():
    with Constants() as made:
        torch.ones(3) * 2 + torch.arange(3)
        assert made.count == 0
        torch.tensor([1, 2])
        assert made.count == 1


@pytest.mark.parametrize("method", METHODS)
def test_the_second_forward_makes_no_tensor_of_numbers(method):
    model = slot_models.build("llama").eval()
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, model.config.vocab_size, (2, 32), generator=generator)
    with torch.no_grad():
        apply(method, model, batch, seed=0, progress=None)
        first = model(batch).logits
        plain = slot_models.build("llama").eval()
        plain(batch)
        with Constants() as own:
            plain(batch)
        with Constants() as made:
            assert torch.equal(model(batch).logits, first)
    assert made.count <= own.count
