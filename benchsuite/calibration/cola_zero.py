"""COLA-Zero: documents that are typical of the corpus' clusters in text, difficulty and length.

TF-IDF, perplexity under a scoring model, length and diversity of each long document are
standardised and clustered; the documents nearest each centre are joined and cut. At short
sequences no cluster gives more than an even share, see ``cut_clusters``. The original multiplied
its feature weights in *before* standardising, which cancels them; here they come after, and
``weights_before_scaling`` is the ablation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchsuite.calibration import features
from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.calibration.tokens import as_batch, cut_clusters, document_tokens
from benchsuite.calibration.typical import COVERAGE, Typical, typical
from benchsuite.models.progress import Progress

WEIGHTS = {"tfidf": 1.0, "perplexity": 1.0, "length": 1.0, "diversity": 1.0}
PER_CLUSTER = (2, 3)
SCORED_TOKENS = 256
"""The beginning of a document that its perplexity is of."""
SCORED_TOGETHER = 16


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    weights: Mapping[str, float] | None = None,
    weights_before_scaling: bool = False,
    min_tokens: Sequence[int] = (175, 200, 225),
    max_documents: int | None = 8192,
    progress: Progress | None = None,
) -> Selection:
    """Return chunks of the documents nearest the centres of ``n_samples`` clusters.

    ``weights`` replaces some of ``WEIGHTS``. Document lengths ``min_tokens`` are tried in turn
    until the chosen documents hold 1.10 times the tokens needed; otherwise the best coverage
    found is taken. ``max_documents`` caps the documents considered, the same ones for every seed.
    Raises ``CorpusTooShort`` when there are fewer long documents than clusters.
    """
    account = Account(pool)
    tokens = document_tokens(pool, account)
    lengths = np.array([len(t) for t in tokens])
    considered = features.long_enough(lengths, min(min_tokens), max_documents, n_samples)
    perplexities = features.document_perplexities(
        pool,
        account,
        considered,
        max_length=SCORED_TOKENS,
        batch_size=SCORED_TOGETHER,
        progress=progress,
    )
    attempts = _attempts(
        pool,
        account,
        tokens,
        considered,
        perplexities,
        min_tokens,
        n_samples=n_samples,
        seq_len=seq_len,
        seed=seed,
        weights={**WEIGHTS, **(weights or {})},
        weights_before_scaling=weights_before_scaling,
        device=pool.device,
    )
    threshold, best = _first_covering(attempts)
    cut = cut_clusters(pool, best.by_cluster, n_samples, seq_len, seed, COVERAGE)
    return account.close(
        as_batch(pool, cut.chunks),
        sampler="cola_zero",
        min_tokens=threshold,
        max_documents=max_documents,
        scoring_model=pool.scorer.name,
        **best.details,
        **cut.details(),
    )


def _attempts(
    pool: CalibrationPool,
    account: Account,
    tokens: Sequence[np.ndarray],
    considered: np.ndarray,
    perplexities: np.ndarray,
    min_tokens: Sequence[int],
    *,
    n_samples: int,
    **how: Any,
) -> Iterator[tuple[int, Typical]]:
    """Yield a length and the documents found among those that have it; ``how`` as in `typical`."""
    lengths = np.array([len(t) for t in tokens])
    for threshold in min_tokens:
        kept = lengths[considered] >= threshold
        documents = considered[kept]
        if len(documents) < n_samples:
            continue
        columns = {
            "tfidf": features.tfidf(pool, account, documents),
            "perplexity": perplexities[kept][:, None],
            **features.extent(tokens, documents),
        }
        for found in typical(documents, columns, lengths, PER_CLUSTER, n_samples=n_samples, **how):
            yield threshold, found


def _first_covering(attempts: Iterator[tuple[int, Typical]]) -> tuple[int, Typical]:
    """Return the first attempt that covers the tokens needed, or the one that covers most."""
    best = next(attempts)
    while best[1].coverage < COVERAGE and (attempt := next(attempts, None)):
        if attempt[1].coverage > best[1].coverage:
            best = attempt
    return best
