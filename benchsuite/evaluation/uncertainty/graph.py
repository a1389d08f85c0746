"""Scores from the graph of the sampled answers, whose weights say how alike two answers are.

Degree matrix, eccentricity and eigenvalue are of Lin, Trivedi and Sun (2023, arXiv 2305.19187),
kernel language entropy is of Nikitin et al. (2024, arXiv 2405.20003). Both papers take weights from
a model for natural-language inference or from words in common; here they are the cell's similarity,
between the answers alone, averaged over both directions. A sample without a token is left out.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg

from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined
from benchsuite.evaluation.uncertainty.similarity import Similarity

INFORMATIVE = 0.9
"""Eigenvectors of the Laplacian below this eigenvalue are the answers' coordinates."""
HEAT = 0.3
"""How long the heat spreads in kernel language entropy: the paper's t."""
PLACES = 10
"""Decimals of these scores. The same answers drawn in another order move the last bits of an
eigenvalue; questions that are equally unsure would be ranked by that noise."""


def degree_matrix(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """One minus the mean weight, 0 to 1: how unlike two answers are, themselves included."""
    return _of_weights(asked, tools, degree)


def eigenvalue(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """The sum of max(0, 1 - l) over the Laplacian's eigenvalues: a continuous number of sets."""
    return _of_weights(asked, tools, continuous_sets)


def eccentricity(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """How far the answers lie from their middle, in the coordinates of the Laplacian."""
    return _of_weights(asked, tools, spread)


def kernel_language_entropy(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """The von Neumann entropy of the graph's heat kernel, up to log(samples) nats.

    Above 0 where all answers are equal: the heat has not spread evenly at t.
    """
    return _of_weights(asked, tools, kernel_entropy)


def degree(weights: np.ndarray) -> float:
    """Return one minus the mean of the weights [n, n]."""
    return float(1 - weights.mean())


def continuous_sets(weights: np.ndarray) -> float:
    """Return the sum of max(0, 1 - l) over the eigenvalues of the Laplacian [n, n], 1 to n."""
    return float(np.clip(1 - np.linalg.eigvalsh(laplacian(weights)), 0, None).sum())


def spread(weights: np.ndarray) -> float:
    """Return the norm of the centred informative eigenvectors of the Laplacian [n, n]."""
    values, vectors = np.linalg.eigh(laplacian(weights))
    places = vectors[:, values < INFORMATIVE]
    return float(np.linalg.norm(places - places.mean(0)))


def kernel_entropy(weights: np.ndarray) -> float:
    """Return -tr(K log K) of the heat kernel K [n, n], scaled to equal diagonals and trace 1.

    An edge weighs as much as both its directions together.
    """
    edges = 2 * weights
    kernel = scipy.linalg.expm(-HEAT * (np.diag(edges.sum(1)) - edges))
    scale = np.sqrt(np.diag(kernel))
    shares = np.linalg.eigvalsh(kernel / np.outer(scale, scale) / len(kernel))
    shares = shares[shares > 1e-12]
    return abs(float(shares @ np.log(shares)))


def laplacian(weights: np.ndarray) -> np.ndarray:
    """Return I - D^-1/2 W D^-1/2 of the weights W [n, n], whose row sums are D."""
    root = 1 / np.sqrt(weights.sum(1))
    return np.asarray(np.eye(len(weights)) - root[:, None] * weights * root)


def weights_of(texts: Sequence[str], similarity: Similarity) -> np.ndarray:
    """Return how alike the texts are, float64 [n, n]: symmetric, 1 between equal ones."""
    different = list(dict.fromkeys(texts))
    pairs = [(a, b) for a in different for b in different if a != b]
    known = dict(zip(pairs, np.clip(similarity(pairs), 0, 1), strict=True)) if pairs else {}
    rows = [[known.get((a, b), 1.0) for b in texts] for a in texts]
    weights = np.array(rows, np.float64).reshape(len(texts), len(texts))
    return (weights + weights.T) / 2


def _of_weights(
    asked: Sequence[Asked], tools: Tools, measure: Callable[[np.ndarray], float]
) -> list[float | Undefined]:
    values: list[float | Undefined] = []
    for one in asked:
        texts = [sample.text.strip() for sample in one.samples if len(sample.log_probs)]
        weights = weights_of(texts, tools.relevance.similarity)
        values.append(
            # + 0.0: no -0.0 beside a 0.0.
            round(measure(weights), PLACES) + 0.0
            if texts
            else Undefined("no sampled answer has a token")
        )
    return values
