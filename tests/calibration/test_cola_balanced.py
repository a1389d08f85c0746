import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from benchsuite.calibration import CalibrationPool
from benchsuite.calibration.cola_balanced import select

N, LENGTH = 6, 16


def _ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module")
def features(documents, tokenizer):
    """The recipe's features: reduced TF-IDF, length, diversity; standardised, then weighted."""
    rows = [_ids(tokenizer, d) for d in documents]
    words = TfidfVectorizer(
        max_features=5000, ngram_range=(1, 2), min_df=2, max_df=0.95, sublinear_tf=True
    ).fit_transform(documents)
    size = min(100, min(words.shape) - 1)
    reduced = TruncatedSVD(size, random_state=0).fit_transform(words)
    scalars = [(len(ids), len(set(ids)) / len(ids)) for ids in rows]
    scaled = StandardScaler().fit_transform(np.hstack([reduced, scalars]))
    return scaled * np.repeat([0.1, 1, 1], [size, 1, 1])


def _documents(features, seed, per_cluster):
    means = KMeans(N, n_init=50, max_iter=300, random_state=seed).fit(features)
    distances = ((features - means.cluster_centers_[means.labels_]) ** 2).sum(axis=1).round(6)
    chosen = []
    for cluster in range(N):
        members = np.flatnonzero(means.labels_ == cluster)
        chosen += members[np.argsort(distances[members], kind="stable")][:per_cluster].tolist()
    return chosen


@pytest.mark.parametrize("seq_len", [16, 60, 150])
def test_documents_per_cluster_grow_until_they_cover(seq_len, pool, features):
    details = select(pool, N, seq_len, 42, min_tokens=20).details

    for per_cluster in range(1, 33):
        chosen = _documents(features, 42, per_cluster)
        held = sum(len(pool.documents[i].split()) for i in chosen)
        if held >= 1.10 * N * seq_len:
            break
    assert details["documents_per_cluster"] == per_cluster
    assert details["n_chosen"] == len(chosen)
    assert set(details["documents"]) <= set(chosen)
    assert details["coverage"] == pytest.approx(held / (N * seq_len))


def test_at_short_lengths_each_cluster_gives_one_chunk(pool):
    selection = select(pool, N, LENGTH, 43, min_tokens=20)
    rows = [_ids(pool.tokenizer, pool.documents[i]) for i in selection.details["documents"]]

    assert selection.batch.tolist() == [ids[:LENGTH] for ids in rows]


def test_special_tokens_in_the_text_are_stripped(documents, tokenizer):
    marked = tuple(f"<s> {d} </s> <pad>" for d in documents)
    pool = CalibrationPool(marked, tokenizer)

    batch = select(pool, N, LENGTH, 42, min_tokens=20).batch

    assert _ids(tokenizer, marked[0])[0] == tokenizer.bos_token_id
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert not np.isin(batch.numpy(), special).any()


def test_a_pool_that_cannot_cover_stops_at_32_and_repeats_itself(pool):
    total = sum(len(d.split()) for d in pool.documents)
    details = select(pool, N, total // 4, 42, min_tokens=20).details

    assert details["documents_per_cluster"] == 32
    assert details["coverage"] < 1.10
    assert details["overlapping_chunks"] > 0


def test_weights_before_scaling_have_no_effect(pool):
    weights = {"tfidf": 5.0, "length": 0.2}
    ones = {"tfidf": 1.0, "length": 1.0, "diversity": 1.0}
    plain = select(pool, N, LENGTH, 42, min_tokens=20, weights=ones).details

    before = select(
        pool, N, LENGTH, 42, min_tokens=20, weights=weights, weights_before_scaling=True
    ).details
    after = select(pool, N, LENGTH, 42, min_tokens=20, weights=weights).details

    assert before["documents"] == plain["documents"]
    assert after["documents"] != plain["documents"]
    assert after["variance_shares"]["tfidf"] > plain["variance_shares"]["tfidf"]
