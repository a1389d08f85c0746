import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.perplexity import begun_chunks, perplexity, tokenize_protocol
from tests.models import tiny


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def ids(n, seed=0):
    return torch.randint(300, (n,), generator=torch.Generator().manual_seed(seed))


def slow_chunk_nll(model, token_ids, seq_len):
    """The protocol position by position, in float64."""
    values = []
    for start in range(0, len(token_ids) - seq_len + 1, seq_len):
        chunk = token_ids[start : start + seq_len]
        with torch.no_grad():
            log_p = model(chunk[None]).logits[0].double().log_softmax(-1)
        steps = [-float(log_p[t, chunk[t + 1]]) for t in range(seq_len - 1)]
        values.append(sum(steps) / len(steps))
    return np.array(values)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "opt"])
def test_equals_a_slow_loop(model_type):
    model, tokens = tiny.model(model_type), ids(330)
    result = perplexity(model, tokens, seq_len=64, batch_size=2)
    expected = slow_chunk_nll(model, tokens, 64)
    np.testing.assert_allclose(result.chunk_nll, expected, rtol=1e-6)
    assert result.value == pytest.approx(math.exp(expected.mean()), rel=1e-6)
    assert result.chunk_nll.dtype == np.float64
    assert result.n_tokens == 5 * 64  # the rest of 10 tokens is no chunk


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "mistral", "opt"])
def test_on_cuda_it_equals_the_models_own_forward_and_repeats_bit_for_bit(model_type):
    model, tokens = tiny.model(model_type, dtype=torch.float16).cuda(), ids(2048).cuda()
    result = perplexity(model, tokens, seq_len=256)
    expected = slow_chunk_nll(model, tokens, 256)
    np.testing.assert_allclose(result.chunk_nll, expected, rtol=1e-3)
    again = perplexity(model, tokens, seq_len=256)
    np.testing.assert_array_equal(again.chunk_nll, result.chunk_nll)


def test_equals_the_models_own_loss(model):
    tokens = ids(256)
    losses = [model(c[None], labels=c[None]).loss.item() for c in tokens.view(4, 64)]
    result = perplexity(model, tokens, seq_len=64)
    np.testing.assert_allclose(result.chunk_nll, losses, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 12), seq_len=st.sampled_from([17, 64, 100]))
def test_the_batch_size_does_not_matter(model, batch_size, seq_len):
    tokens = ids(400)
    one = perplexity(model, tokens, seq_len=seq_len, batch_size=1)
    many = perplexity(model, tokens, seq_len=seq_len, batch_size=batch_size)
    np.testing.assert_allclose(many.chunk_nll, one.chunk_nll, rtol=1e-6)


def test_logits_are_made_a_bounded_number_of_positions_at_a_time(model, monkeypatch):
    """No slice of fp32 logits above the bound, and the slicing changes nothing."""
    tokens = ids(1024)
    whole = perplexity(model, tokens, seq_len=256, batch_size=4)
    rows = []
    handle = model.lm_head.register_forward_hook(lambda m, i, o: rows.append(o[..., 0].numel()))
    monkeypatch.setitem(perplexity.__globals__["LOGIT_BYTES"], "cpu", 50 * 300 * 4)
    sliced = perplexity(model, tokens, seq_len=256, batch_size=4)
    handle.remove()
    assert max(rows) <= 50
    np.testing.assert_allclose(sliced.chunk_nll, whole.chunk_nll, rtol=1e-6)


class SoftCapped(nn.Module):
    """A model that does more after its head, as Gemma 2 does."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.base_model, self.config = inner, inner.base_model, inner.config

    def get_output_embeddings(self):
        return self.inner.lm_head

    def forward(self, input_ids, **options):
        result = self.inner(input_ids=input_ids, **options)
        result.logits = 5 * torch.tanh(result.logits / 5)
        return result


def test_what_a_model_does_after_its_head_is_not_lost(model):
    capped, tokens = SoftCapped(model), ids(256)
    result = perplexity(capped, tokens, seq_len=64)
    np.testing.assert_allclose(result.chunk_nll, slow_chunk_nll(capped, tokens, 64), rtol=1e-6)
    assert abs(result.value - perplexity(model, tokens, seq_len=64).value) > 1


def test_max_tokens_keeps_the_first_whole_chunks(model):
    tokens = ids(9000)
    everything = perplexity(model, tokens, seq_len=100)
    part = perplexity(model, tokens, seq_len=100, max_tokens=4196)
    assert part.n_tokens == 4100
    np.testing.assert_allclose(part.chunk_nll, everything.chunk_nll[:41], atol=1e-6)
    with pytest.raises(UsageError, match="at least 4096"):
        perplexity(model, tokens, seq_len=100, max_tokens=4095)


def test_impossible_lengths_say_the_fix(model):
    with pytest.raises(BenchsuiteError, match="50 tokens, less than one chunk of 64"):
        perplexity(model, ids(50), seq_len=64)
    with pytest.raises(UsageError, match="positions up to 512"):
        perplexity(model, ids(4096), seq_len=1024)
    with pytest.raises(UsageError, match="at least 2"):
        perplexity(model, ids(50), seq_len=1)


def test_a_value_that_is_not_finite_names_the_first_bad_chunk():
    broken, tokens = tiny.model(), ids(256) % 200
    tokens[150] = 250  # in the third chunk of 64
    with torch.no_grad():
        broken.model.embed_tokens.weight[250] = float("nan")
    with pytest.raises(
        BenchsuiteError, match=r"chunk 2 \(tokens 128 to 191\) gives nan, and 1 of 4"
    ):
        perplexity(broken, tokens, seq_len=64)


def test_the_model_and_global_state_are_left_as_they_were(model):
    model.train()
    before = torch.get_rng_state()
    seen = []
    perplexity(model, ids(640), seq_len=64, batch_size=4, progress=lambda *step: seen.append(step))
    assert model.training
    model.eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert seen == [("perplexity", done, 10) for done in (4, 8, 10)]


def test_tokens_are_those_of_the_default_specials():
    tokenizer = tiny.tokenizer()
    tokens = tokenize_protocol(tokenizer, "one\n\ntwo")
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == tokenizer("one\n\ntwo").input_ids
    assert tokens[0] == tokenizer.bos_token_id


def test_every_chunk_of_gemma_s_begins_with_its_first_token_and_no_other_s():
    llama = tiny.tokenizer()
    backend = Tokenizer.from_str(llama.backend_tokenizer.to_str().replace('"<s>"', '"<bos>"'))
    gemma = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="</s>", add_bos_token=True
    )
    text = "the text of some chunks, the last of them cut off"
    ids, bos = tokenize_protocol(gemma, text), gemma.bos_token_id
    found = begun_chunks(ids, gemma, 8)
    assert ids[0] == bos
    chunks = found[: len(found) // 8 * 8].view(-1, 8)
    assert (chunks[:, 0] == bos).all()
    body = found[found != bos]
    assert torch.equal(body, ids[1:])  # nothing of the text is lost, or there twice
    assert len(found) == len(body) + -(-len(body) // 7)
    plain = tokenize_protocol(llama, text)
    assert begun_chunks(plain, llama, 8) is plain
    assert begun_chunks(ids[1:], gemma, 8).equal(ids[1:])  # its tokenizer begins no text with it
