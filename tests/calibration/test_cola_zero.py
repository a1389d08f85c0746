"""COLA-Zero against the published recipe, spelled out with scikit-learn and one model call each."""

import random

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from benchsuite.calibration import CalibrationPool
from benchsuite.calibration.cola_zero import select
from benchsuite.calibration.features import document_perplexities
from benchsuite.calibration.pool import Account
from benchsuite.calibration.tokens import CorpusTooShort
from tests.calibration.conftest import corpus

N, LENGTH = 8, 16


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _perplexity(model, tokenizer, text, max_length):
    ids = torch.tensor([tokenizer(text)["input_ids"][:max_length]])
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).loss.exp().item()


def _documents(pool, seed, min_tokens, per_cluster, weights=(1, 1, 1, 1), max_length=256):
    """The documents that the recipe chooses, by the features themselves."""
    rows = [_ids(pool.tokenizer, d) for d in pool.documents]
    kept = [i for i, ids in enumerate(rows) if len(ids) >= min_tokens]
    texts = [pool.documents[i] for i in kept]
    words = TfidfVectorizer(
        max_features=5000, ngram_range=(1, 2), min_df=2, max_df=0.95, sublinear_tf=True
    ).fit_transform(texts)
    scalars = [
        (
            _perplexity(pool.model, pool.tokenizer, pool.documents[i], max_length),
            len(rows[i]),
            len(set(rows[i])) / len(rows[i]),
        )
        for i in kept
    ]
    features = StandardScaler().fit_transform(np.hstack([words.toarray(), scalars]))
    features *= np.repeat(weights, [words.shape[1], 1, 1, 1])
    means = KMeans(N, n_init=50, max_iter=300, random_state=seed).fit(features)
    distances = ((features - means.cluster_centers_[means.labels_]) ** 2).sum(axis=1).round(6)
    chosen = []
    for cluster in range(N):
        members = np.flatnonzero(means.labels_ == cluster)
        chosen += [
            kept[i] for i in members[np.argsort(distances[members], kind="stable")][:per_cluster]
        ]
    return chosen


@pytest.mark.parametrize("seed", [42, 43])
def test_the_batch_is_that_of_the_published_recipe(seed, pool):
    """At so short a length each cluster gives one chunk, of the document nearest its centre."""
    nearest = _documents(pool, seed, 20, 1)

    selection = select(pool, N, LENGTH, seed, min_tokens=(20, 25))

    assert selection.details["documents"] == nearest
    rows = [_ids(pool.tokenizer, pool.documents[i])[:LENGTH] for i in nearest]
    assert selection.batch.tolist() == rows
    assert selection.details["tokens_per_cluster"] == LENGTH
    assert selection.details["n_chosen"] == len(_documents(pool, seed, 20, 2))
    assert selection.details["min_tokens"] == 20
    assert selection.details["documents_per_cluster"] == 2
    assert selection.details["overlapping_chunks"] == 0


def test_weights_count_when_applied_after_scaling(pool):
    weights = {"tfidf": 0.01, "perplexity": 3.0, "length": 0.5, "diversity": 2.0}

    selection = select(pool, N, LENGTH, 42, min_tokens=(20,), weights=weights)

    nearest = _documents(pool, 42, 20, 1, tuple(weights.values()))
    assert selection.details["documents"] == nearest
    plain = select(pool, N, LENGTH, 42, min_tokens=(20,))
    assert selection.details["documents"] != plain.details["documents"]


def test_the_originals_defect_weights_before_scaling_have_no_effect(pool):
    weights = {"tfidf": 0.01, "perplexity": 3.0, "length": 0.5, "diversity": 2.0}
    plain = select(pool, N, LENGTH, 42, min_tokens=(20,))

    cancelled = select(
        pool, N, LENGTH, 42, min_tokens=(20,), weights=weights, weights_before_scaling=True
    )

    assert torch.equal(cancelled.batch, plain.batch)
    assert cancelled.details["documents"] == plain.details["documents"]
    assert cancelled.details["weights_before_scaling"] is True


@pytest.mark.parametrize("limit", [2, 8, 256])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_perplexities_are_those_of_single_documents(limit, batch_size, pool):
    documents = np.arange(0, 90, 4)

    found = document_perplexities(
        pool, Account(pool), documents, max_length=limit, batch_size=batch_size
    )

    texts = [pool.documents[i] for i in documents]
    expected = [_perplexity(pool.model, pool.tokenizer, text, limit) for text in texts]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.std() > 1e-3 * found.mean()


def _lengths(pool):
    return np.array([len(_ids(pool.tokenizer, d)) for d in pool.documents])


def test_a_third_document_per_cluster_is_taken_only_for_coverage(pool):
    two = select(pool, N, LENGTH, 42, min_tokens=(20,)).details
    held = _lengths(pool)[_documents(pool, 42, 20, 2)].sum()
    assert two["coverage"] == pytest.approx(held / (N * LENGTH))

    longest = int(held / N / 1.10)  # two documents per cluster just cover this length
    assert select(pool, N, longest, 42, min_tokens=(20,)).details["documents_per_cluster"] == 2
    more = select(pool, N, longest + 1, 42, min_tokens=(20,)).details
    assert more["documents_per_cluster"] == 3
    chosen = _documents(pool, 42, 20, 3)
    assert more["n_chosen"] == len(chosen)
    assert set(more["documents"]) <= set(chosen)


def test_a_higher_threshold_is_tried_only_for_coverage(pool):
    first = select(pool, N, 120, 42, min_tokens=(20,)).details
    assert first["coverage"] < 1.10

    # Fewer, longer documents: what three per cluster of these hold decides.
    tried = select(pool, N, 120, 42, min_tokens=(20, 40, 50)).details
    alone = [select(pool, N, 120, 42, min_tokens=(m,)).details for m in (20, 40, 50)]
    covering = [a for a in alone if a["coverage"] >= 1.10]
    expected = covering[0] if covering else max(alone, key=lambda a: a["coverage"])
    assert tried["min_tokens"] == expected["min_tokens"]
    assert tried["documents"] == expected["documents"]


def test_short_of_tokens_random_overlapping_chunks_are_added(pool):
    selection = select(pool, N, 200, 42, min_tokens=(20, 25))
    chosen = selection.details["documents"]
    ids = _ids(pool.tokenizer, "\n\n".join(pool.documents[i] for i in chosen))
    generator = random.Random(42)
    expected = [ids[200 * i : 200 * (i + 1)] for i in range(len(ids) // 200)]
    added = N - len(expected)
    for _ in range(added):
        start = generator.randint(0, len(ids) - 200)
        expected.append(ids[start : start + 200])

    assert selection.batch.tolist() == expected
    assert selection.details["overlapping_chunks"] == added > 0
    assert selection.details["tokens_per_cluster"] is None
    assert len(chosen) == selection.details["n_chosen"]
    assert selection.details["coverage"] < 1.10


def test_the_cap_takes_the_same_documents_for_every_seed(pool):
    considered = []
    for seed in (42, 43, 44):
        details = select(pool, N, LENGTH, seed, min_tokens=(20,), max_documents=30).details
        assert details["n_considered"] == 30
        considered.append(set(details["documents"]))

    assert len(set.union(*considered)) <= 30


def test_another_scoring_model_is_named_and_used(pool, documents, tokenizer, model):
    calls = []

    def scorer():
        calls.append(1)
        return model, tokenizer, "small scorer"

    other = CalibrationPool(documents, tokenizer, scoring_model=scorer)  # no model of its own
    selections = [select(other, N, LENGTH, seed, min_tokens=(20,)) for seed in (42, 43)]

    assert len(calls) == 1
    assert selections[0].details["scoring_model"] == "small scorer"
    assert torch.equal(selections[0].batch, select(pool, N, LENGTH, 42, min_tokens=(20,)).batch)


def test_too_few_long_documents(tokenizer, model):
    pool = CalibrationPool(corpus(5, shortest=20, longest=30), tokenizer, model=model)

    with pytest.raises(CorpusTooShort, match=r"5 documents of at least 20 tokens .* need 8"):
        select(pool, N, LENGTH, 42, min_tokens=(20, 25))
