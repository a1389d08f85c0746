"""K-means in sample space: exact, and far cheaper than on thousands of TF-IDF columns.

Every squared distance that Lloyd's algorithm compares is a sum of inner products of documents, so
the Gram matrix G = X X^T is all it needs: for a centre c, ||x_i - c||^2 = G_ii - 2 mean_j G_ij +
mean_jl G_jl over the members j, l of c. An iteration then costs n_changed * n * k, not n * d * k,
and nothing is approximated. Random numbers are drawn in the order of ``sklearn.cluster.KMeans``
(greedy k-means++), so that its labels come out for the same seed. All in float64, on a GPU where
the pool has one: the Gram matrix of 8,192 documents is the largest cost of a selection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

Matrix: TypeAlias = Any  # a float64 array or a scipy sparse matrix, [n, d]

N_INIT, MAX_ITER = 50, 300
"""Runs of k-means, and iterations of each at the most, that a sampler takes."""


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums differ in their last bits between thread counts: always take one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


def standardized_gram(
    blocks: list[tuple[Matrix, float]],
    *,
    weights_before_scaling: bool = False,
    device: str = "cpu",
) -> tuple[torch.Tensor, list[float]]:
    """Return the Gram matrix of standardised, weighted feature blocks, float64 ``[n, n]``.

    Each block is ``[n, d]``, dense or sparse, with its weight. Columns get zero mean and unit
    variance; constant ones become zero. Weights multiply the standardised columns;
    ``weights_before_scaling`` multiplies the raw ones instead, which standardising undoes. Also
    returned: each block's share of the total variance.
    """
    with _one_thread():
        grams = []
        for block, weight in blocks:
            if weights_before_scaling:
                grams.append(_block_gram(block * weight, device))
            else:
                grams.append(_block_gram(block, device) * weight**2)
        traces = [float(gram.trace()) for gram in grams]
        total = torch.stack(grams).sum(dim=0) if len(grams) > 1 else grams[0]
    variance = sum(traces)
    return total, [trace / variance if variance else 0.0 for trace in traces]


def _block_gram(block: Matrix, device: str) -> torch.Tensor:
    """Return the Gram matrix of a block's standardised columns, on the device."""
    if sparse.issparse(block):
        if torch.device(device).type == "cpu":
            return torch.from_numpy(_sparse_gram(block))
        block = block.toarray()  # a GPU multiplies the zeros sooner than a CPU leaves them out
    columns = torch.from_numpy(np.ascontiguousarray(block)).to(device)
    centred = columns - columns.mean(dim=0)
    scale = centred.std(dim=0, correction=0)
    # As StandardScaler: what is constant up to rounding has no scale of its own.
    constant = scale <= 10 * torch.finfo(torch.float64).eps * columns.abs().amax(dim=0)
    centred = (centred / scale.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)
    return centred @ centred.T


def _sparse_gram(block: Matrix) -> np.ndarray:
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


def kmeans(
    gram: torch.Tensor, k: int, seed: int, *, n_init: int = N_INIT, max_iter: int = MAX_ITER
) -> Clusters:
    """Cluster ``n`` samples by their Gram matrix, float64 ``[n, n]``, at least ``k`` of them.

    Returns the run with the least inertia among ``n_init``; a run ends when no label changes. The
    work is done where the matrix lies.
    """
    generator = np.random.RandomState(seed)
    norms = gram.diagonal().clone()
    best: Clusters | None = None
    with _one_thread():
        for _ in range(n_init):
            start = _plus_plus(gram, norms.numpy(force=True), k, generator)
            found = _lloyd(gram, norms, torch.from_numpy(start).to(gram.device), max_iter)
            if best is None or found.inertia < best.inertia:
                best = found
    assert best is not None
    return best


def _plus_plus(
    gram: torch.Tensor, norms: np.ndarray, k: int, generator: np.random.RandomState
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


def _distances_to(gram: torch.Tensor, norms: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return squared distances of all samples to some, ``[len(samples), n]``."""
    rows = gram[torch.from_numpy(samples).to(gram.device)].numpy(force=True)
    distances = norms[samples, None] + norms - 2 * rows
    distances[np.arange(len(samples)), samples] = 0.0
    return np.maximum(distances, 0.0)


def _lloyd(gram: torch.Tensor, norms: torch.Tensor, start: torch.Tensor, max_iter: int) -> Clusters:
    k, n = len(start), len(gram)
    clusters = torch.arange(k, device=gram.device)[:, None]
    sums = gram[start]  # [k, n]: inner products of every sample with the sum of c's members
    counts = norms.new_ones(k)
    offset = norms[start]  # [k]: squared norm of each centre
    labels = start.new_full((n,), -1)
    member = labels
    for iteration in range(1, max_iter + 1):
        scores, assigned = _nearest_centre(offset, counts, sums)
        if torch.equal(assigned, labels):
            break
        labels = assigned
        before, member = member, _without_empty(labels, norms + scores, k)
        inside = (member == clusters).to(gram.dtype)  # [k, n]
        if iteration == 1:
            sums = inside @ gram
        else:  # at the cost of the samples that moved alone
            moved = (before != member).nonzero().flatten()
            change = inside[:, moved] - (before[moved] == clusters).to(gram.dtype)
            sums = sums + change @ gram[moved]
        counts = inside.sum(dim=1).clamp(min=1)
        offset = (inside * sums).sum(dim=1) / counts**2
    scores, labels = _nearest_centre(offset, counts, sums)
    distances = (norms + scores).clamp(min=0).numpy(force=True)
    return Clusters(labels.numpy(force=True), distances, float(distances.sum()), iteration)


def _nearest_centre(
    offset: torch.Tensor, counts: torch.Tensor, sums: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each sample's squared distance to the nearest centre, less its norm, and which."""
    scores, labels = torch.addcmul(offset[:, None], (-2 / counts)[:, None], sums).min(dim=0)
    return scores, labels


def _without_empty(labels: torch.Tensor, distances: torch.Tensor, k: int) -> torch.Tensor:
    """Return the samples that each centre is made of: an empty cluster gets the farthest one."""
    empty = (torch.bincount(labels, minlength=k) == 0).nonzero().flatten()
    members = labels.clone()
    if len(empty):
        farthest = distances.argsort(stable=True).flip(0)
        members[farthest[: len(empty)]] = empty
    return members
