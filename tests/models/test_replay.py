"""Work that a GPU repeats, as a graph: what it leaves is what the plain calls leave."""

import copy
import gc
import weakref

import pytest
import torch

from benchsuite.models import replay
from benchsuite.models.replay import Repeated, Replayed
from benchsuite.quantizers import adaround, gptq
from tests.decoding import slot_models

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=cuda)]


@pytest.mark.parametrize("device", DEVICES)
def test_every_call_returns_tensors_of_its_own(device):
    twice = Replayed(lambda x, y: (x * 2, None if y is None else y + 1))
    calls = [torch.full((3,), float(n), device=device) for n in range(5)]
    found = [twice(x, None) for x in calls]
    assert [made.tolist() for made, _ in found] == [[2.0 * n] * 3 for n in range(5)]
    assert all(second is None for _, second in found)
    # Other shapes are other work.
    wide = torch.ones(7, device=device)
    assert [twice(wide, wide)[1].tolist() for _ in range(3)] == [[2.0] * 7] * 3


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_is_done_as_often_as_it_is_called(device):
    total = torch.zeros(1, device=device)
    step = Repeated(lambda: total.add_(1), total.device)
    for _ in range(6):
        step()
    assert total.item() == 6


@cuda
@pytest.mark.parametrize("options", [{}, {"desc_act": True}, {"sym": False, "mse": True}])
def test_gptq_by_graphs_has_the_bits_of_gptq_without(options, monkeypatch):
    digests = [weights(gptq, options)]
    monkeypatch.setattr(replay.Replayed, "__call__", lambda self, *t: self._function(*t))
    digests.append(weights(gptq, options))
    assert digests[0] == digests[1]


@cuda
def test_adaround_by_graphs_has_the_bits_of_adaround_without(monkeypatch):
    digests = [weights(adaround, {"iterations": 200})]
    monkeypatch.setattr(replay.Repeated, "__call__", lambda self: self._step())
    digests.append(weights(adaround, {"iterations": 200}))
    assert digests[0] == digests[1]


def weights(method, options):
    """Return the digest of a small Llama on the GPU, quantized."""
    model = copy.deepcopy(slot_models.build("llama")).to("cuda", torch.float16)
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, model.config.vocab_size, (8, 64), generator=generator)
    return method.quantize(model, batch, group_size=32, **options).weights_sha256


@cuda
def test_what_cannot_be_a_graph_is_done_as_written():
    takes_from_the_host = Replayed(lambda x: (x + torch.tensor([1.0, 2.0], device=x.device),))
    x = torch.zeros(2, device="cuda")
    takes_from_the_host(x)
    with pytest.warns(UserWarning, match="without a CUDA graph"):
        assert takes_from_the_host(x)[0].tolist() == [1.0, 2.0]
    assert takes_from_the_host(x + 1)[0].tolist() == [2.0, 3.0]
    # The device is as good as before.
    again = Replayed(lambda x: (x * 2,))
    assert [again(x + 1)[0].tolist() for _ in range(3)] == [[2.0, 2.0]] * 3


class Circle:
    """Garbage that only Python's collection finds, as a model with its graph is."""

    def __init__(self, holds):
        self.holds, self.itself = holds, self


def test_nothing_is_collected_while_work_is_captured():
    dropped = []
    with replay.nothing_collected():
        weakref.finalize(Circle(None), dropped.append, True)
        many = [[] for _ in range(10 * gc.get_threshold()[0])]
        assert not dropped
    assert gc.isenabled()
    gc.collect()
    assert dropped
    assert len(many)


@cuda
def test_an_earlier_graph_that_is_garbage_does_not_spoil_the_next(recwarn):
    earlier = Replayed(lambda x: (x + 1,))
    x = torch.zeros(3, device="cuda")
    assert [earlier(x)[0].tolist() for _ in range(2)] == [[1.0] * 3] * 2
    Circle(earlier)
    del earlier

    def step(x):
        # Enough objects that Python would collect its garbage in the middle of this.
        _ = [[] for _ in range(200_000)]
        return (x * 2,)

    later = Replayed(step)
    assert [later(x + 1)[0].tolist() for _ in range(3)] == [[2.0] * 3] * 3
    assert not [w for w in recwarn if "without a CUDA graph" in str(w.message)]


@cuda
def test_memory_that_runs_out_in_a_graph_is_raised(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(replay, "Graph", full)
    step = Repeated(lambda: None, torch.device("cuda"))
    step()
    with pytest.raises(torch.OutOfMemoryError):
        step()
