"""Documents near the centres of a corpus' clusters: what both COLA-Zero samplers choose from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchsuite.calibration.clustering import MAX_ITER, N_INIT, Matrix, kmeans, standardized_gram

COVERAGE = 1.10
"""Tokens that the chosen documents are to hold, as a multiple of those needed."""


@dataclass(frozen=True)
class Typical:
    """The documents nearest each cluster's centre, as indices in the pool, nearest first.

    ``coverage`` is the tokens that they hold as a multiple of those needed; ``details`` is what a
    selection says of how they were found.
    """

    by_cluster: list[list[int]]
    coverage: float
    details: dict[str, Any]


def typical(
    documents: np.ndarray,
    columns: Mapping[str, Matrix],
    lengths: np.ndarray,
    per_cluster: Iterable[int],
    *,
    n_samples: int,
    seq_len: int,
    seed: int,
    weights: Mapping[str, float],
    weights_before_scaling: bool,
    device: str,
) -> Iterator[Typical]:
    """Cluster documents once and yield those nearest the centres, so many of each cluster.

    ``documents`` int64 ``[n]`` are indices in the pool, ``columns`` their features, each ``[n, d]``
    and weighted by ``weights``, ``lengths`` int64 the tokens of every document of the pool. There
    are ``n_samples`` clusters.
    """
    gram, shares = standardized_gram(
        [(matrix, weights[name]) for name, matrix in columns.items()],
        weights_before_scaling=weights_before_scaling,
        device=device,
    )
    clusters = kmeans(gram, n_samples, seed)
    for most in per_cluster:
        members = clusters.nearest(n_samples, most)
        by_cluster = [[int(documents[i]) for i in cluster] for cluster in members]
        chosen = [document for cluster in by_cluster for document in cluster]
        coverage = float(lengths[chosen].sum() / (n_samples * seq_len))
        details = {
            "n_considered": len(documents),
            "documents_per_cluster": most,
            "n_chosen": len(chosen),
            "coverage": coverage,
            "weights": dict(weights),
            "weights_before_scaling": weights_before_scaling,
            "variance_shares": dict(zip(columns, shares, strict=True)),
            "n_init": N_INIT,
            "max_iter": MAX_ITER,
            "inertia": clusters.inertia,
            "n_iter": clusters.n_iter,
        }
        yield Typical(by_cluster, coverage, details)
