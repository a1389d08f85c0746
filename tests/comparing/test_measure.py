"""What two models say of one text, against float64 and the rooms that measured it before."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from benchsuite.comparing import measure
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.rounded import rounded_activations
from benchsuite.comparing.rows import rows_of
from benchsuite.comparing.spread import CONFIDENCE, interval_of, kl_spread
from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation.divergence import divergence
from benchsuite.evaluation.perplexity import perplexity
from benchsuite.quantizers import rtn
from tests.models import tiny


def ids(n, seed=0, high=300):
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))


def rounded(bits, **changes):
    model = tiny.model(**changes)
    rtn.quantize(model, bits=bits, group_size=32)
    return model


@torch.no_grad()
def reference(base, other, chunks):
    """KL(base || other) [chunks, positions] in float64, of the models' logits for all chunks."""
    p, q = (
        model(chunks).logits[:, :-1].double().log_softmax(-1).numpy() for model in (base, other)
    )
    return (np.exp(p) * (p - q)).sum(-1)


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("model_type", ["llama", "opt"])
def test_kl_equals_a_float64_reference(model_type, bits):
    base, other = tiny.model(model_type), rounded(bits, model_type=model_type)
    found = measure.read(base, other, ids(4 * 64 + 10), seq_len=64)
    expected = reference(base, other, ids(4 * 64).view(4, 64))
    np.testing.assert_allclose(found.tokens.kl.mean(), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.tokens.kl.mean(1), expected.mean(1), rtol=1e-5)
    assert found.tokens.kl.shape == (4, 63)


def test_by_chunk_it_is_what_the_studies_measure():
    base, other, tokens = tiny.model(), rounded(3), ids(512)
    items = measure.read(base, other, tokens, seq_len=64).tokens.items()
    one, two = (perplexity(model, tokens, seq_len=64).chunk_nll for model in (base, other))
    np.testing.assert_allclose(items["nll"].base, one, rtol=1e-6)
    np.testing.assert_allclose(items["nll"].candidate, two, rtol=1e-6)
    kl = divergence(base, other, tokens, seq_len=64).chunk_kl
    np.testing.assert_allclose(items["kl"].candidate, kl, rtol=1e-4)
    assert not items["kl"].base.any()


def test_slices_and_batches_do_not_matter(monkeypatch):
    base, other, tokens = tiny.model(), rounded(4), ids(512)
    whole = measure.read(base, other, tokens, seq_len=64).tokens
    monkeypatch.setitem(measure.LOGIT_BYTES, "cpu", 4 * 300 * 7)
    monkeypatch.setitem(measure._COMPARED_BYTES, "cpu", 4 * 300 * 3)
    monkeypatch.setitem(measure.BATCH_TOKENS, "cpu", 64)
    small = measure.read(base, other, tokens, seq_len=64).tokens
    np.testing.assert_allclose(small.kl.mean(1), whole.kl.mean(1), rtol=1e-4)
    assert np.array_equal(small.same, whole.same)


def test_predictions_are_counted_token_by_token():
    base, other, tokens = tiny.model(), rounded(2), ids(256)
    found = measure.read(base, other, tokens, seq_len=64).tokens
    with torch.no_grad():
        tops = [m(tokens.view(4, 64)).logits[:, :-1].argmax(-1) for m in (base, other)]
    assert np.array_equal(found.same, (tops[0] == tops[1]).numpy())
    assert np.array_equal(found.right, (tops[1] == tokens.view(4, 64)[:, 1:]).numpy())
    assert 0 < found.same.mean() < 1


def test_a_model_beside_itself_is_nothing_and_its_floor_is_something():
    model = tiny.model()
    found = measure.read(model, copy.deepcopy(model), ids(256), seq_len=64)
    assert np.abs(found.tokens.kl).max() < 1e-12
    assert found.tokens.same.all()
    assert 0 < found.floor.kl.mean() < 0.01
    assert np.abs(found.floor.nll - found.floor.base_nll).max() > 0


def test_the_floor_is_far_below_a_real_loss():
    found = measure.read(tiny.model(), rounded(3), ids(256), seq_len=64)
    assert found.floor.kl.mean() < 0.1 * found.tokens.kl.mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_activations_are_rounded_once_more_in_every_dtype(dtype):
    model, tokens = tiny.model(dtype=dtype), ids(64)[None]
    with torch.no_grad():
        before = model(tokens).logits
        with rounded_activations(model):
            moved = model(tokens).logits
        after = model(tokens).logits
    assert torch.equal(before, after)
    off = float((moved - before).abs().max() / before.abs().max())
    assert 0 < off < 0.1


def test_rows_of_padding_on_one_side_are_left_out():
    base = tiny.model()
    padded = tiny.model(vocab_size=320)
    state = base.state_dict()
    for name, tensor in padded.state_dict().items():
        tensor[: len(state[name])] = state[name]
    found = measure.read(base, padded, ids(128), seq_len=64)
    assert found.shared == 300
    assert 0 <= found.tokens.kl.min() <= found.tokens.kl.max() < 1e-9
    assert (found.tokens.nll >= found.tokens.base_nll - 1e-9).all()


def test_what_is_not_finite_is_named():
    broken = tiny.model()
    broken.model.norm.weight = torch.nn.Parameter(torch.full((64,), float("nan")))
    with pytest.raises(BenchsuiteError, match="what the candidate predicts is not finite: chunk 0"):
        measure.read(tiny.model(), broken, ids(128), seq_len=64)


def test_the_spread_is_that_of_tokens_and_of_chunks():
    found = measure.read(tiny.model(), rounded(3), ids(1024), seq_len=64).tokens
    items = found.items(group=4)
    assert items["kl"].clusters == tuple(str(i // 4) for i in range(16))
    spread = kl_spread(found, items["kl"])
    assert spread.median <= spread.p90 <= spread.p99 <= spread.largest == found.kl.max()
    assert spread.low < spread.mean < spread.high
    groups = found.kl.mean(1).reshape(4, 4).mean(1)
    half = 3.182446 * groups.std(ddof=1) / 2  # t of 3 degrees of freedom
    assert spread.high - spread.mean == pytest.approx(half, rel=1e-5)
    assert sum(part.n for part in spread.bins) == found.kl.size
    assert [part.low for part in spread.bins] == list(CONFIDENCE[:-1])
    sums = sum(part.n * part.kl for part in spread.bins if part.n)
    assert sums / found.kl.size == pytest.approx(spread.mean)


def test_tokenizers_are_one_or_it_is_said_why_not():
    ours = tiny.tokenizer()
    assert measure.same_vocabulary(ours, tiny.tokenizer(), "some text") == ""
    swapped = copy.deepcopy(ours)
    vocabulary = ours.get_vocab()
    swapped.get_vocab = lambda: vocabulary | {"a": vocabulary["b"], "b": vocabulary["a"]}
    assert "(2 differ)" in measure.same_vocabulary(ours, swapped, "some text")


def test_the_interval_of_a_share_ends_where_shares_do():
    """Of two models that agree nowhere it went on to -100.13 points."""
    agreed = np.array([0.0, 0, 0.01, 0, 0, 0.003, 0, 0])
    items = PairedItems("same_top", tuple("abcdefgh"), np.ones(8), agreed)
    nothing = SimpleNamespace(metrics=())
    (row,) = rows_of(SimpleNamespace(items=(), verdict=nothing, shares=[items], floor={}), {})
    high = stats.ttest_1samp(agreed - 1, 0).confidence_interval().high
    assert (row.low, row.high) == (-100, pytest.approx(100 * high))


def test_the_interval_of_uneven_groups_is_that_of_the_mean_that_is_shown():
    """Its middle was once the mean of the groups' means: .14 where .07 was shown."""
    rng = np.random.default_rng(1)
    names = tuple(map(str, range(10)))
    groups = tuple(str(i // 3) for i in range(10))
    far = np.append(rng.gamma(2, 0.01, 9), 0.5)
    items = PairedItems("kl", names, np.zeros(10), far, groups)

    low, high = interval_of(items)

    assert (low + high) / 2 == pytest.approx(far.mean())
    left = [np.delete(far, slice(3 * i, 3 * i + 3)).mean() for i in range(4)]
    error = np.sqrt(3 / 4 * sum((mean - far.mean()) ** 2 for mean in left))  # the jackknife's
    worth = 10**2 / (3 * 3**2 + 1)  # groups of one size
    assert high - far.mean() == pytest.approx(stats.t.ppf(0.975, worth - 1) * error)
    alone = interval_of(replace(items, clusters=None))
    assert alone == pytest.approx(stats.ttest_1samp(far, 0).confidence_interval())
    assert interval_of(replace(items, clusters=("one",) * 10)) == (None, None)
