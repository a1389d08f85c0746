"""Sample-space k-means against scikit-learn's on the features themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchsuite.calibration.clustering import kmeans, standardized_gram


def _points(n, d, seed):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) + 2 * generator.integers(0, 3, size=(n, 1))


def _gram(x):
    return torch.from_numpy(x @ x.T)


@pytest.mark.parametrize("seed", [0, 42, 46])
@pytest.mark.parametrize(("n", "d", "k"), [(60, 5, 4), (80, 300, 12), (30, 3, 30), (50, 2, 1)])
def test_labels_are_those_of_scikit_learn(n, d, k, seed):
    x = _points(n, d, seed)

    found = kmeans(_gram(x), k, seed, n_init=10, max_iter=300)
    reference = KMeans(k, n_init=10, max_iter=300, random_state=seed).fit(x)

    assert found.labels.tolist() == reference.labels_.tolist()
    assert found.inertia == pytest.approx(reference.inertia_, rel=1e-9, abs=1e-9)
    centres = reference.cluster_centers_[reference.labels_]
    np.testing.assert_allclose(found.distances, ((x - centres) ** 2).sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_a_run_cut_short_is_that_of_scikit_learn(max_iter):
    x = _points(200, 4, 3)

    found = kmeans(_gram(x), 9, 1, n_init=1, max_iter=max_iter)
    reference = KMeans(9, n_init=1, max_iter=max_iter, tol=0, random_state=1).fit(x)

    assert found.labels.tolist() == reference.labels_.tolist()
    assert found.n_iter == reference.n_iter_


@given(
    n=st.integers(2, 25),
    d=st.integers(1, 6),
    k=st.integers(1, 25),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_distances_are_to_the_nearest_of_the_members_means(n, d, k, seed):
    k = min(k, n)
    x = np.random.default_rng(seed).integers(-2, 3, size=(n, d)).astype(float)  # with duplicates

    found = kmeans(_gram(x), k, seed, n_init=2, max_iter=100)

    assert found.labels.min() >= 0
    assert found.labels.max() < k
    assert found.inertia == pytest.approx(found.distances.sum())
    total = ((x - x.mean(axis=0)) ** 2).sum()
    assert -1e-9 <= found.inertia <= total + 1e-9
    listed = found.nearest(k, n)
    assert sorted(i for members in listed for i in members) == list(range(n))
    for members in listed:
        assert np.all(np.diff(found.distances[members]) >= -1e-8 * found.distances.max())


def test_a_pair_is_ordered_by_index_not_by_rounding():
    x = np.array([[0.3, 0.1], [0.1, 0.7], [9.0, 9.0]])

    found = kmeans(_gram(x), 2, 0, n_init=5, max_iter=10)

    assert sorted(found.nearest(2, 2)) == [[0, 1], [2]]


def test_identical_samples_do_not_break_it():
    found = kmeans(torch.ones(6, 6, dtype=torch.float64), 3, 0, n_init=3, max_iter=10)

    assert found.inertia == 0
    assert len(found.nearest(3, 1)) == 3


def test_the_thread_count_does_not_change_a_bit():
    x = _points(300, 400, 0)
    blocks = [(x, 1.0), (sparse.random_array((300, 500), density=0.1, rng=0).tocsr(), 0.5)]
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(limits=threads):
            gram, _ = standardized_gram(blocks)
            results.append((gram, kmeans(gram, 16, 42, n_init=3, max_iter=50).distances))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)

    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.fixture
def blocks():
    generator = np.random.default_rng(5)
    words = sparse.random_array((40, 90), density=0.2, rng=generator).toarray()
    words[:, 7] = 0.25  # constant columns carry nothing
    rows = sparse.csr_array(words)
    dense = np.column_stack([generator.normal(1000, 300, 40), np.full(40, 0.1)])
    return rows, dense


def test_gram_is_of_the_standardised_columns_weighted(blocks):
    rows, dense = blocks
    scaled = StandardScaler().fit_transform(np.hstack([rows.toarray(), dense]))
    scaled *= np.repeat([0.3, 2.0], [90, 2])

    gram, shares = standardized_gram([(rows, 0.3), (dense, 2.0)])

    np.testing.assert_allclose(gram, scaled @ scaled.T, atol=1e-9)
    expected = [0.09 * 89, 4.0 * 1]  # one column of each block is constant
    assert shares == pytest.approx([part / sum(expected) for part in expected])


def test_weights_before_scaling_cancel(blocks):
    rows, dense = blocks
    plain, _ = standardized_gram([(rows, 1.0), (dense, 1.0)])

    before, _ = standardized_gram([(rows, 0.3), (dense, 20.0)], weights_before_scaling=True)
    after, _ = standardized_gram([(rows, 0.3), (dense, 20.0)])

    np.testing.assert_allclose(before, plain, atol=1e-8)
    assert not np.allclose(after, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_clusters():
    x = _points(400, 300, 0)
    words = sparse.random_array((400, 500), density=0.1, rng=0).tocsr()
    found = {}
    for device in ("cpu", "cuda"):
        gram, _ = standardized_gram([(x, 1.0), (words, 0.5)], device=device)
        found[device] = kmeans(gram, 16, 42, n_init=10, max_iter=300)

    assert found["cuda"].labels.tolist() == found["cpu"].labels.tolist()
    np.testing.assert_allclose(found["cuda"].distances, found["cpu"].distances, rtol=1e-9)
