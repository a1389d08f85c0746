"""Perplexity and KL over several devices: the values of one, in the text's order.

Several devices of a CPU are one processor under as many names.
"""

import gc
import os
import signal
from collections import Counter
from threading import Barrier, Event, get_ident
from weakref import ref

import pytest
import torch

from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation import side_by_side
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.models.pool import fresh_tree
from benchsuite.models.replicas import Replica, replicas_kept, replicas_of, share_work
from benchsuite.quantizers import rtn
from benchsuite.quantizers.kernels import using_kernel
from benchsuite.quantizers.linear import quantized_linears
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
        (made,) = replicas_of(model)
        made.arrive()
        own, other = map(quantized_linears, (model, made.module))
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


CPUS = [torch.device("cpu")] * 3


@pytest.mark.parametrize("share", [side_by_side.shared_out, side_by_side.by_threads])
def test_batches_come_in_order_and_end_with_the_first_fault(share):
    begun = []

    def work(place, batch):
        begun.append((place, batch))
        assert not torch.is_grad_enabled()
        if batch == 7:
            raise BenchsuiteError("no memory left", "here", "use less")
        return batch

    assert list(share(CPUS, 7, work)) == list(range(7))
    assert sorted(batch for _, batch in begun) == list(range(7))
    made = share(CPUS, 1000, work)
    assert [next(made) for _ in range(7)] == list(range(7))
    with pytest.raises(BenchsuiteError, match="no memory"):
        next(made)
    assert len(begun) < 1000


def threads_of(share=side_by_side.by_threads):
    """Return the thread that sends each of three devices a batch."""
    all_have_one = Barrier(3)

    def work(place, batch):
        all_have_one.wait(60)
        return place, get_ident()

    return dict(share(CPUS, 3, work))


def test_the_threads_that_send_batches_stay():
    first = threads_of()
    made = side_by_side.by_threads(CPUS, 1000, lambda place, batch: get_ident())
    assert next(made) in first.values()
    made.close()  # as where a consumer has a fault of its own
    assert threads_of() == first


def test_an_evaluation_inside_another_waits_for_none_of_its_batches():
    both = side_by_side.by_threads(CPUS, 3, lambda place, batch: threads_of())
    assert [len(set(inside.values())) for inside in both] == [3, 3, 3]


def test_a_fork_has_threads_of_its_own():
    first = threads_of()
    child = os.fork()
    if not child:  # nothing of the test's session may run here
        signal.alarm(60)
        try:
            os._exit(0 if sorted(threads_of()) == [0, 1, 2] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert threads_of() == first


def test_on_a_cpu_the_devices_take_turns():
    made = side_by_side.shared_out(CPUS, 7, lambda place, batch: (place, batch))
    assert [place for place, _ in made] == [0, 1, 2, 0, 1, 2, 0]


def test_a_device_that_begins_late_reads_less_and_nothing_changes_its_place():
    all_have_one, others_are_done, done = Barrier(3), Event(), []

    def work(place, batch):
        if batch < 3:
            all_have_one.wait(60)
        if place == 2:  # as a replica whose weights are still on their way
            assert others_are_done.wait(60)
        done.append((place, batch))
        if len(done) == 10:
            others_are_done.set()
        return batch

    assert list(side_by_side.by_threads(CPUS, 11, work)) == list(range(11))
    assert Counter(place == 2 for place, _ in done) == {False: 10, True: 1}


def test_a_gpu_is_never_sent_more_than_one_batch_ahead(monkeypatch):
    """So that none keeps batches to itself that another could begin with."""
    events = []

    def end_of_what_was_sent(device):
        sent = events[-1][1]
        return lambda: events.append(("ended", sent))

    monkeypatch.setattr(side_by_side, "_end_of_what_was_sent", end_of_what_was_sent)
    work = lambda place, batch: events.append(("sent", batch))  # noqa: E731
    list(side_by_side.by_threads(CPUS[:1], 4, work))
    sent, ended = ([(kind, n) for n in range(4)] for kind in ("sent", "ended"))
    assert events == [sent[0], sent[1], ended[0], sent[2], ended[1], sent[3], ended[2]]


def test_replicas_are_made_once_inside_the_block_that_keeps_them():
    model = on(3, tiny.model())
    chunks = read_by(model)
    alone = perplexity(tiny.model(), ids(11), seq_len=SEQ_LEN)
    with replicas_kept(model):
        kept = [ref(one.module) for one in replicas_of(model)]
        for _ in range(2):
            value = perplexity(model, ids(11), seq_len=SEQ_LEN, batch_size=1).value
            assert value == pytest.approx(alone.value, rel=1e-6)
        assert [one.module for one in replicas_of(model)] == [module() for module in kept]
        assert set(chunks) == {id(one.base_model) for one in (model, *(m() for m in kept))}
    gc.collect()
    assert [module() for module in kept] == [None, None]
    assert replicas_of(model)[0] is not replicas_of(model)[0]


def test_a_replica_has_its_modules_at_once_and_its_tensors_when_they_arrive():
    model = tiny.model()
    made = Replica(model, torch.device("meta"))
    model.base_model.norm.forward = None  # replaced while the replica is on its way
    assert "forward" not in vars(made.module.base_model.norm)
    assert all(t.device.type == "cpu" for t in made.module.parameters())
    made.arrive()
    assert all(t.is_meta for t in (*made.module.parameters(), *made.module.buffers()))
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def test_a_replica_that_cannot_be_made_ends_the_evaluation(monkeypatch):
    """As when a further GPU has no memory left for it."""

    def arrive(replica):
        raise BenchsuiteError("no memory left", "here", "use less")

    monkeypatch.setattr(Replica, "arrive", arrive)
    with pytest.raises(BenchsuiteError, match="no memory"):
        perplexity(on(2, tiny.model()), ids(70), seq_len=SEQ_LEN)
