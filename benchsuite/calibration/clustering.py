"""K-means in sample space: exact, and far cheaper than on thousands of TF-IDF columns.

Every squared distance that Lloyd's algorithm compares is a sum of inner products of documents, so
the Gram matrix G = X X^T is all it needs: for a centre c, ||x_i - c||^2 = G_ii - 2 mean_j G_ij +
mean_jl G_jl over the members j, l of c. An iteration then costs n_changed * n * k, not n * d * k,
and nothing is approximated. Random numbers are drawn in the order of ``sklearn.cluster.KMeans``
(greedy k-means++), so that its labels come out for the same seed.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

Matrix: TypeAlias = Any  # a float64 array or a scipy sparse matrix, [n, d]


@dataclass(frozen=True)
class Clusters:
    """The best of several k-means runs.

    ``labels`` int64 ``[n]``; ``distances`` float64 ``[n]``, squared, to the own centre;
    ``inertia`` their sum; ``n_iter`` the iterations of the best run.
    """

    labels: np.ndarray
    distances: np.ndarray
    inertia: float
    n_iter: int

    def nearest(self, k: int, per_cluster: int) -> list[list[int]]:
        """Return each cluster's members nearest its centre, nearest first, ties by index.

        Distances equal to nine digits are ties: the two members of a pair are equally far from
        their mean, and rounding, which differs between machines, must not order them.
        """
        digits = np.round(self.distances / (self.distances.max() or 1.0), 9)
        order = np.lexsort((np.arange(len(self.labels)), digits))
        return [order[self.labels[order] == c][:per_cluster].tolist() for c in range(k)]


def standardized_gram(
    blocks: list[tuple[Matrix, float]], *, weights_before_scaling: bool = False
) -> tuple[np.ndarray, list[float]]:
    """Return the Gram matrix of standardised, weighted feature blocks, float64 ``[n, n]``.

    Each block is ``[n, d]``, dense or sparse, with its weight. Columns get zero mean and unit
    variance; constant ones become zero. Weights multiply the standardised columns;
    ``weights_before_scaling`` multiplies the raw ones instead, which standardising undoes. Also
    returned: each block's share of the total variance.
    """
    with threadpool_limits(limits=1):  # sums differ in their last bits between thread counts
        grams = []
        for block, weight in blocks:
            if weights_before_scaling:
                grams.append(_block_gram(block * weight))
            else:
                grams.append(_block_gram(block) * weight**2)
        total = np.sum(grams, axis=0) if len(grams) > 1 else grams[0]
    variance = np.trace(total)
    return total, [float(np.trace(gram) / variance) if variance else 0.0 for gram in grams]


def _block_gram(block: Matrix) -> np.ndarray:
    if not sparse.issparse(block):
        centred = block - block.mean(axis=0)
        scale = centred.std(axis=0)
        # As StandardScaler: what is constant up to rounding has no scale of its own.
        constant = scale <= 10 * np.finfo(float).eps * np.abs(block).max(axis=0)
        centred = np.where(constant, 0.0, centred / np.where(constant, 1.0, scale))
        return centred @ centred.T
    # (A - 1 m^T)(A - 1 m^T)^T multiplied out, A = block / scale, so that A stays sparse.
    mean = np.asarray(block.mean(axis=0)).ravel()
    variance = np.asarray(block.multiply(block).mean(axis=0)).ravel() - mean**2
    constant = variance <= 10 * np.finfo(float).eps * mean**2
    inverse = np.where(constant, 0.0, 1.0 / np.sqrt(np.where(constant, 1.0, variance)))
    scaled = (block @ sparse.diags_array(inverse)).tocsr()
    shift = mean * inverse
    cross = scaled @ shift
    gram = (scaled @ scaled.T).toarray()
    return gram - cross[:, None] - cross[None, :] + shift @ shift


def kmeans(gram: np.ndarray, k: int, seed: int, *, n_init: int, max_iter: int) -> Clusters:
    """Cluster ``n`` samples by their Gram matrix ``[n, n]``, at least ``k`` of them.

    Returns the run with the least inertia among ``n_init``; a run ends when no label changes.
    """
    generator = np.random.RandomState(seed)
    norms = np.diagonal(gram).copy()
    best: Clusters | None = None
    with threadpool_limits(limits=1):
        for _ in range(n_init):
            start = _plus_plus(gram, norms, k, generator)
            found = _lloyd(gram, norms, start, max_iter)
            if best is None or found.inertia < best.inertia:
                best = found
    assert best is not None
    return best


def _plus_plus(
    gram: np.ndarray, norms: np.ndarray, k: int, generator: np.random.RandomState
) -> np.ndarray:
    """Choose ``k`` samples as centres, each the best of a few drawn by squared distance."""
    n = len(gram)
    trials = 2 + int(np.log(k))
    chosen = np.empty(k, dtype=np.int64)
    chosen[0] = generator.choice(n, p=np.full(n, 1.0 / n))
    closest = _distances_to(gram, norms, chosen[:1])[0]
    potential = closest.sum()
    for c in range(1, k):
        drawn = generator.uniform(size=trials) * potential
        candidates = np.searchsorted(np.cumsum(closest), drawn).clip(max=n - 1)
        distances = np.minimum(closest, _distances_to(gram, norms, candidates))
        potentials = distances.sum(axis=1)
        best = int(np.argmin(potentials))
        chosen[c], closest, potential = candidates[best], distances[best], potentials[best]
    return chosen


def _distances_to(gram: np.ndarray, norms: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return squared distances of all samples to some, ``[len(samples), n]``."""
    distances = norms[samples, None] + norms - 2 * gram[samples]
    distances[np.arange(len(samples)), samples] = 0.0
    return np.maximum(distances, 0.0)


def _lloyd(gram: np.ndarray, norms: np.ndarray, start: np.ndarray, max_iter: int) -> Clusters:
    k, n = len(start), len(gram)
    sums = gram[start]  # [k, n]: inner products of every sample with the sum of c's members
    counts: np.ndarray = np.ones(k)
    offset = norms[start]  # [k]: squared norm of each centre
    labels: np.ndarray = np.full(n, -1)
    member = labels
    for iteration in range(1, max_iter + 1):
        scores = offset[:, None] - (2 / counts)[:, None] * sums  # [k, n], less the sample's norm
        assigned = scores.argmin(axis=0)
        if np.array_equal(assigned, labels):
            break
        labels = assigned
        own = norms + scores[labels, np.arange(n)]
        members = _without_empty(labels, own, k)
        sums = _updated(sums, gram, member, members) if iteration > 1 else _sums(gram, members, k)
        member = members
        counts = np.maximum(np.bincount(member, minlength=k), 1).astype(float)
        within = np.bincount(member, weights=sums[member, np.arange(n)], minlength=k)
        offset = within / counts**2
    scores = offset[:, None] - (2 / counts)[:, None] * sums
    labels = scores.argmin(axis=0)
    distances = np.maximum(norms + scores[labels, np.arange(n)], 0.0)
    return Clusters(labels, distances, float(distances.sum()), iteration)


def _without_empty(labels: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Return the samples that each centre is made of: an empty cluster gets the farthest one."""
    empty = np.flatnonzero(np.bincount(labels, minlength=k) == 0)
    members = labels.copy()
    if len(empty):
        members[np.argsort(distances, kind="stable")[::-1][: len(empty)]] = empty
    return members


def _sums(gram: np.ndarray, members: np.ndarray, k: int) -> np.ndarray:
    return (members == np.arange(k)[:, None]).astype(float) @ gram


def _updated(
    sums: np.ndarray, gram: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Return the sums after some samples moved, at the cost of those samples alone."""
    moved = np.flatnonzero(before != after)
    clusters = np.arange(len(sums))[:, None]
    change = (after[moved] == clusters).astype(float) - (before[moved] == clusters)
    return sums + change @ gram[moved]
