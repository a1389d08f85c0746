"""Forwards by graphs: the numbers of the plain ones, and only where nothing is lost by it."""

import pytest
import torch
from torch import nn

from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import BATCH_TOKENS, perplexity
from benchsuite.models import replayed_forwards
from benchsuite.models.fused import FAMILIES
from benchsuite.models.replay import Graph
from benchsuite.models.replayed_forwards import can_be_replayed, one_sequence_a_row
from benchsuite.quantizers import rtn
from benchsuite.quantizers.kernels import using_kernel
from tests.models import tiny

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def noted(function, calls):
    return lambda *given: calls.append(given) or function(*given)


def ids(n):
    return torch.randint(300, (n,), generator=torch.Generator().manual_seed(2))


def test_what_transformers_asks_is_its_own_again_afterwards():
    from transformers import masking_utils

    own = dict(vars(masking_utils))
    packed = torch.tensor([[0, 1, 0, 1]])
    assert masking_utils.find_packed_sequence_indices(packed).tolist() == [[0, 0, 1, 1]]
    with one_sequence_a_row(), one_sequence_a_row():
        assert masking_utils.find_packed_sequence_indices(packed) is None
    assert dict(vars(masking_utils)) == own


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "opt"])
def test_rows_of_one_sequence_give_the_same_logits(model_type):
    model, batch = tiny.model(model_type).eval(), ids(64).view(2, 32)
    with torch.no_grad():
        expected = model(input_ids=batch, use_cache=False).logits
        with one_sequence_a_row():
            assert torch.equal(model(input_ids=batch, use_cache=False).logits, expected)


@cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_perplexity_and_kl_by_graphs_have_the_bits_of_those_without(family, dtype, monkeypatch):
    original = tiny.model(family, dtype=dtype).cuda().eval()
    rounded = tiny.model(family, dtype=dtype).cuda().eval()
    rtn.quantize(rounded, bits=4, group_size=32)

    monkeypatch.setitem(BATCH_TOKENS, "cuda", 128)
    text, replays = ids(64 * 11), []
    monkeypatch.setattr(Graph, "__call__", noted(Graph.__call__, replays))

    def read():
        with using_kernel(rounded, "held"):
            of_chunks = perplexity(rounded, text, seq_len=64).chunk_nll
            return of_chunks.tolist(), divergence(original, rounded, text, seq_len=64).value

    by_graphs = read()
    # Of five whole batches the first is read as it is; so is one chunk, for the vocabulary.
    assert len(replays) == 3 * 4 + 2
    monkeypatch.setattr(replayed_forwards, "can_be_replayed", lambda model: False)
    assert read() == by_graphs
    assert len(replays) == 3 * 4 + 2


@cuda
def test_a_model_with_hooks_or_modules_of_others_or_much_memory_is_read_as_it_is(monkeypatch):
    class Others(nn.Linear):
        """A library's own linear."""

    def small():
        return tiny.model("llama").cuda()

    hooked, foreign = small(), small()
    hooked.model.norm.register_forward_hook(lambda *_: None)
    foreign.model.layers[0].mlp.up_proj = Others(8, 8, device="cuda")
    assert not can_be_replayed(small())
    with one_sequence_a_row():
        assert can_be_replayed(small())
        assert [can_be_replayed(model) for model in (hooked, foreign)] == [False, False]
        monkeypatch.setattr(replayed_forwards, "MOST_WEIGHT_BYTES", 1000)
        assert not can_be_replayed(small())


def test_on_a_cpu_nothing_is_replayed():
    with one_sequence_a_row():
        assert not can_be_replayed(tiny.model("llama"))
