"""Perplexity and KL over several devices: the values of one, in the text's order.

Several devices of a CPU are one processor under as many names.
"""

from collections import Counter

import pytest
import torch

from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation import side_by_side
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.pool import fresh_tree
from benchsuite.models.replicas import replicas_of, share_work
from benchsuite.quantizers import rtn
from benchsuite.quantizers.linear import quantized_linears, using_kernel
from tests.models import tiny

SEQ_LEN = 64


def ids(n_chunks):
    return torch.randint(300, (SEQ_LEN * n_chunks,), generator=torch.Generator().manual_seed(5))


def on(n_devices, model):
    share_work(model, ["cpu"] * n_devices)
    return model


def read_by(model):
    """Count the chunks that each replica of a model's backbone reads."""
    found = Counter()
    backbone = model.base_model
    backbone.register_forward_pre_hook(
        lambda module, args, kwargs: found.update({id(module): len(kwargs["input_ids"])}),
        with_kwargs=True,
    )
    return found


@pytest.mark.parametrize("model_type", ["llama", "opt", "gemma2"])
def test_perplexity_is_bit_equal_for_any_number_of_devices(model_type):
    tokens = ids(11)
    one = perplexity(tiny.model(model_type), tokens, seq_len=SEQ_LEN, batch_size=2)
    for n_devices in (2, 3, 8):
        model = on(n_devices, tiny.model(model_type))
        seen = []
        told = {"progress": lambda *args, seen=seen: seen.append(args[1]), "batch_size": 2}
        more = perplexity(model, tokens, seq_len=SEQ_LEN, **told)
        assert more.chunk_nll.tolist() == one.chunk_nll.tolist()
        assert (more.value, more.chunks) == (one.value, one.chunks)
        assert seen == [2, 4, 6, 8, 10, 11]


def test_the_batches_go_to_the_devices_in_turn():
    model = on(3, tiny.model())
    chunks = read_by(model)
    perplexity(model, ids(11), seq_len=SEQ_LEN, batch_size=2)
    # The model itself reads a probe of one chunk first.
    probe = chunks.pop(id(model.base_model)) - 4
    assert probe in (1, 2)
    assert sorted(chunks.values()) == [3, 4]


@pytest.mark.parametrize("kernel", ["dequantize", "held"])
def test_divergence_is_bit_equal_for_any_number_of_devices(kernel):
    found = []
    for n_devices in (1, 3):
        original = on(n_devices, tiny.model(seed=1))
        quantized = on(n_devices, fresh_tree(original))
        rtn.quantize(quantized, bits=4, group_size=32)
        with using_kernel(quantized, kernel):
            found.append(divergence(original, quantized, ids(70), seq_len=SEQ_LEN))
            quality = perplexity(quantized, ids(70), seq_len=SEQ_LEN)
            found.append(quality)
    one, first, three, other = found
    assert one.value > 0
    assert three.chunk_kl.tolist() == one.chunk_kl.tolist()
    assert other.chunk_nll.tolist() == first.chunk_nll.tolist()


def test_devices_of_one_model_alone_change_nothing():
    original, quantized = on(3, tiny.model()), tiny.model(seed=1)
    alone = divergence(tiny.model(), quantized, ids(40), seq_len=SEQ_LEN)
    both = divergence(original, quantized, ids(40), seq_len=SEQ_LEN)
    assert both.chunk_kl.tolist() == alone.chunk_kl.tolist()


def test_a_replica_makes_its_dequantized_weights_itself():
    model = on(2, tiny.model())
    rtn.quantize(model, bits=4, group_size=32)
    with using_kernel(model, "held"):
        own, other = map(quantized_linears, replicas_of(model))
        for name, linear in own.items():
            assert other[name].packed.data_ptr() == linear.packed.data_ptr()
            for one in (linear, other[name]):
                one(torch.zeros(1, one.in_features))
            assert other[name]._operand is not linear._operand
            assert torch.equal(other[name]._operand, linear._operand)


def test_a_thread_a_device_gives_the_same_values(monkeypatch):
    """As on several GPUs; on a CPU one thread sends everything."""
    tokens = ids(11)
    original, quantized = on(3, tiny.model(seed=1)), on(3, tiny.model(seed=2))
    one = (
        perplexity(original, tokens, seq_len=SEQ_LEN, batch_size=2),
        divergence(original, quantized, tokens, seq_len=SEQ_LEN),
    )
    for function in (perplexity, divergence):
        monkeypatch.setitem(function.__globals__, "shared_out", side_by_side.by_threads)
    assert perplexity(original, tokens, seq_len=SEQ_LEN, batch_size=2).value == one[0].value
    again = divergence(original, quantized, tokens, seq_len=SEQ_LEN)
    assert again.chunk_kl == pytest.approx(one[1].chunk_kl, rel=1e-5)


@pytest.mark.parametrize("share", [side_by_side.shared_out, side_by_side.by_threads])
def test_batches_come_in_order_and_end_with_the_first_fault(share):
    begun = []

    def work(place, batch):
        begun.append((place, batch))
        assert not torch.is_grad_enabled()
        if batch == 7:
            raise BenchsuiteError("no memory left", "here", "use less")
        return batch

    devices = [torch.device("cpu")] * 3
    assert list(share(devices, 7, work)) == list(range(7))
    for place in range(3):
        assert [b for p, b in begun if p == place] == list(range(place, 7, 3))
    made = share(devices, 1000, work)
    assert [next(made) for _ in range(7)] == list(range(7))
    with pytest.raises(BenchsuiteError, match="no memory"):
        next(made)
