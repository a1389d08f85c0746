"""Token ids out of text: what a tokenizer's own call gives, without what nobody asks for."""

import numpy as np
import pytest

from benchsuite.calibration.tokens import cut_clusters, encode
from benchsuite.embedded import tokenizer as embedded

TEXTS = ("", "def f(x):\n\n    return x + 12", "naïve 日本語 🙂\t\r\n", "</s> <pad> <s>" * 3)


class Slow:
    """A tokenizer that is nothing but a function."""

    def __init__(self, fast):
        self.called = fast

    def __call__(self, text, **options):
        return self.called(text, **options)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_are_those_of_the_tokenizers_own_call(text, special):
    tokenizer = embedded.load()
    expected = tokenizer(text, add_special_tokens=special)["input_ids"]
    tokenizer(["a b", "c"], truncation=True, max_length=2, padding=True)  # must leave no trace
    found = encode(tokenizer, text, special=special)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert encode(Slow(tokenizer), text, special=special).tolist() == expected


def _joined(pool, documents):
    text = "\n\n".join(pool.documents[i] for i in documents)
    return pool.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("seq_len", [4, 20, 31, 45, 60, 90])
@pytest.mark.parametrize("per_cluster", [1, 2, 3])
def test_every_cluster_enters_and_what_is_listed_was_used(pool, seq_len, per_cluster):
    """Whole documents up to the coverage, beyond it the least equal number of first tokens."""
    n = 6
    clusters = [list(range(10 * i, 10 * i + per_cluster)) for i in range(n)]
    parts = [_joined(pool, documents) for documents in clusters]
    cut = cut_clusters(pool, clusters, n, seq_len, seed=1, coverage=1.10)
    if sum(map(len, parts)) <= 1.10 * n * seq_len:
        every = [document for documents in clusters for document in documents]
        expected, share = _joined(pool, every), None
        used = [d for i, d in enumerate(every) if len(_joined(pool, every[:i])) < n * seq_len]
    else:
        shares = range(1, max(map(len, parts)) + 1)
        share = next(k for k in shares if sum(min(len(p), k) for p in parts) >= n * seq_len)
        expected = [token for part in parts for token in part[:share]]
        used = [
            d
            for documents in clusters
            for i, d in enumerate(documents)
            if len(_joined(pool, documents[:i])) < share
        ]
        assert {document // 10 for document in cut.documents} == set(range(n))
    assert cut.most_per_cluster == share
    assert cut.documents == used
    whole = min(n, len(expected) // seq_len)
    assert cut.chunks[:whole].ravel().tolist() == expected[: whole * seq_len]
    assert cut.overlapping == n - whole


def test_ids_left_out_are_left_out_before_cutting(pool):
    without = [5, 6, 7, 8, 20, 21]
    cut = cut_clusters(pool, [[0, 1], [3, 4]], 2, 16, seed=1, coverage=1.10, without=without)
    assert set(_joined(pool, [0, 1])[:16]) & set(without)
    assert not set(cut.chunks.ravel().tolist()) & set(without)
