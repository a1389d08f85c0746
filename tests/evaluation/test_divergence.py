import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation import divergence as room
from benchsuite.evaluation import shown
from benchsuite.evaluation.divergence import divergence, flips
from benchsuite.quantizers import rtn
from tests.evaluation import embedded_model
from tests.models import tiny


def ids(n, seed=0, high=300):
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))


def slow(original, quantized, tokens, seq_len):
    """Position by position with scipy, in float64."""
    chunks = []
    for start in range(0, len(tokens) - seq_len + 1, seq_len):
        chunk = tokens[start : start + seq_len][None]
        with torch.no_grad():
            p, q = (
                np.exp(log_softmax(model(chunk).logits[0].double().numpy(), axis=-1))
                for model in (original, quantized)
            )
        chunks.append(np.mean([rel_entr(p[t], q[t]).sum() for t in range(seq_len - 1)]))
    return np.array(chunks)


@pytest.mark.parametrize("model_type", ["llama", "opt"])
def test_equals_a_slow_loop(model_type):
    first, second = tiny.model(model_type), tiny.model(model_type, seed=1)
    tokens = ids(330)
    found = divergence(first, second, tokens, seq_len=64)
    expected = slow(first, second, tokens, 64)

    np.testing.assert_allclose(found.chunk_kl, expected, rtol=1e-5)
    np.testing.assert_allclose(found.token_kl.mean(1), expected, rtol=1e-5)
    assert found.token_kl.shape == (5, 63)
    assert found.value == pytest.approx(expected.mean(), rel=1e-5)
    assert found.chunk_kl.dtype == np.float64
    assert found.n_predictions == 5 * 63  # the rest of 10 tokens is no chunk


def test_of_the_worst_chunks_the_tokens_that_moved_most_are_told():
    _, tokenizer = embedded_model.load()
    words = (
        "The quick brown fox says: \u00e9t\u00e9 \u2026 and then it jumps over the lazy dog. " * 40
    )
    tokens = tokenizer(words, return_tensors="pt")["input_ids"][0]
    moved = np.zeros((len(tokens) // 96, 95), dtype=np.float32)
    moved[2, 10:74] = 0.5  # of the tokens 11 to 74 of the third chunk
    moved[0, 3] = 1.0
    told = shown.worst_passages(tokens, moved, tokenizer, 96)
    assert [bool(passage) for passage in told[:4]] == [True, False, True, False]
    passage = json.loads(told[2])
    chunk = tokens[2 * 96 : 3 * 96]
    assert "".join(text for text, _ in passage) == tokenizer.decode(chunk[11:75])
    assert {nats for _, nats in passage} == {0.5}
    first = json.loads(told[0])
    assert [nats for _, nats in first].index(1.0) + 1 == 4  # the fourth of those from the second
    assert not any(shown.worst_passages(tokens, 0 * moved, tokenizer, 96))


def test_it_has_a_direction():
    first, second = tiny.model(), tiny.model(seed=1)
    there = divergence(first, second, ids(128), seq_len=64).value
    back = divergence(second, first, ids(128), seq_len=64).value

    assert there == pytest.approx(slow(first, second, ids(128), 64).mean(), rel=1e-5)
    assert abs(there - back) > 1e-3


def test_a_model_does_not_diverge_from_itself():
    model = tiny.model()
    found = divergence(model, copy.deepcopy(model), ids(256), seq_len=64)
    assert found.chunk_kl.tolist() == [0, 0, 0, 0]


@settings(max_examples=8, deadline=None)
@given(
    batch_tokens=st.sampled_from([1, 100, 4096]), slice_bytes=st.sampled_from([1, 9000, 1 << 26])
)
def test_batches_and_slices_do_not_matter(batch_tokens, slice_bytes):
    first, second = tiny.model(), tiny.model(seed=1)
    expected = divergence(first, second, ids(256), seq_len=64).chunk_kl
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(room.BATCH_TOKENS, "cpu", batch_tokens)
        patch.setitem(room._SLICE_BYTES, "cpu", slice_bytes)
        found = divergence(first, second, ids(256), seq_len=64).chunk_kl
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_fewer_bits_diverge_more():
    original, _ = embedded_model.load()
    tokens = ids(512, high=2048)
    values = []
    for bits in (8, 4, 3):
        quantized = copy.deepcopy(original)
        rtn.quantize(quantized, bits=bits, group_size=32, sym=True)
        values.append(divergence(original, quantized, tokens, seq_len=128).value)

    assert 0 < values[0] < values[1] < values[2]


def test_progress_mode_and_generators():
    first, second = tiny.model().train(), tiny.model(seed=1)
    before, seen = torch.get_rng_state(), []
    divergence(first, second, ids(200), seq_len=64, progress=lambda *a: seen.append(a))

    assert seen == [("divergence", 3, 3)]
    assert (first.training, second.training) == (True, False)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_vocabularies_and_short_texts_are_refused():
    model = tiny.model()
    with pytest.raises(UsageError, match="vocabularies differ: 300 and 310"):
        divergence(model, tiny.model(vocab_size=310), ids(64), seq_len=64)
    with pytest.raises(UsageError, match="63 tokens give no chunk of 64"):
        divergence(model, model, ids(63), seq_len=64)


def test_predictions_that_are_not_finite_name_their_chunk():
    model, broken = tiny.model(), tiny.model()
    with torch.no_grad():
        broken.get_input_embeddings().weight[299] = torch.nan
    tokens = ids(192, high=299)
    tokens[130] = 299
    with pytest.raises(BenchsuiteError, match="chunk 2 of 3 gives nan"):
        divergence(model, broken, tokens, seq_len=64)


def test_flips_of_predictions_and_of_correctness():
    found = flips(np.array([0, 1, 2, -1]), np.array([0, 2, 2, 3]))
    assert found.flipped.tolist() == [False, True, False, True]
    assert found.share == 50
    assert flips(["Paris", ""], ["Paris", "Rome"]).share == 50
    # Wrong before and wrong otherwise now: another answer, but not another correctness.
    assert flips([False, True], np.array([False, False])).flipped.tolist() == [False, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_flips_are_symmetric_and_none_against_oneself(pairs):
    before, after = zip(*pairs, strict=True)
    assert flips(before, after).share == flips(after, before).share
    assert flips(before, before).share == 0
    assert flips(before, after).flipped.dtype == bool


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(UsageError, match="2 and 1 answers"):
        flips([1, 2], [1])
    with pytest.raises(UsageError, match="0 and 0 answers"):
        flips([], [])
