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
from benchsuite.calibration.clustering import kmeans, standardized_gram
from benchsuite.calibration.pool import Account, CalibrationPool, Progress, Selection
from benchsuite.calibration.tokens import as_batch, cut_clusters, document_tokens

WEIGHTS = {"tfidf": 1.0, "perplexity": 1.0, "length": 1.0, "diversity": 1.0}
COVERAGE = 1.10  # tokens held by the chosen documents, as a multiple of those needed
PER_CLUSTER = (2, 3)


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
    n_init: int = 50,
    max_iter: int = 300,
    scoring_max_length: int = 256,
    scoring_batch_size: int = 16,
    progress: Progress | None = None,
) -> Selection:
    """Return chunks of the documents nearest the centres of ``n_samples`` clusters.

    ``weights`` replaces some of ``WEIGHTS``. Document lengths ``min_tokens`` are tried in turn
    until the chosen documents hold 1.10 times the tokens needed; otherwise the best coverage
    found is taken. ``max_documents`` caps the documents considered, the same ones for every seed.
    Raises ``CorpusTooShort`` when there are fewer long documents than clusters.
    """
    weighted = {**WEIGHTS, **(weights or {})}
    account = Account(pool)
    tokens = document_tokens(pool, account)
    lengths = np.array([len(t) for t in tokens])
    considered = features.long_enough(lengths, min(min_tokens), max_documents, n_samples)
    perplexities = features.document_perplexities(
        pool,
        account,
        considered,
        max_length=scoring_max_length,
        batch_size=scoring_batch_size,
        progress=progress,
    )

    def attempts() -> Iterator[dict[str, Any]]:
        for threshold in min_tokens:
            kept = lengths[considered] >= threshold
            documents = considered[kept]
            if len(documents) < n_samples:
                continue
            columns = {
                "tfidf": features.tfidf(pool, account, documents),
                "perplexity": perplexities[kept][:, None],
                "length": lengths[documents][:, None].astype(float),
                "diversity": np.array([[features.diversity(tokens[i])] for i in documents]),
            }
            gram, shares = standardized_gram(
                [(columns[name], weighted[name]) for name in WEIGHTS],
                weights_before_scaling=weights_before_scaling,
                device=pool.device,
            )
            clusters = kmeans(gram, n_samples, seed, n_init=n_init, max_iter=max_iter)
            for per_cluster in PER_CLUSTER:
                members = clusters.nearest(n_samples, per_cluster)
                nearest = [[int(documents[i]) for i in cluster] for cluster in members]
                chosen = [document for cluster in nearest for document in cluster]
                yield {
                    "min_tokens": threshold,
                    "n_considered": len(documents),
                    "documents_per_cluster": per_cluster,
                    "nearest": nearest,
                    "n_chosen": len(chosen),
                    "coverage": float(lengths[chosen].sum() / (n_samples * seq_len)),
                    "variance_shares": dict(zip(WEIGHTS, shares, strict=True)),
                    "inertia": clusters.inertia,
                    "n_iter": clusters.n_iter,
                }

    best = _first_covering(attempts())
    cut = cut_clusters(pool, best.pop("nearest"), n_samples, seq_len, seed, COVERAGE)
    return account.close(
        as_batch(cut.chunks),
        sampler="cola_zero",
        **best,
        n_documents=len(cut.documents),
        documents=cut.documents,
        tokens_per_cluster=cut.most_per_cluster,
        overlapping_chunks=cut.overlapping,
        max_documents=max_documents,
        weights=weighted,
        weights_before_scaling=weights_before_scaling,
        scoring_model=pool.scorer.name,
        n_init=n_init,
        max_iter=max_iter,
    )


def _first_covering(attempts: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Return the first attempt that covers the tokens needed, or the one that covers most."""
    best: dict[str, Any] = {}
    for attempt in attempts:
        if not best or attempt["coverage"] > best["coverage"]:
            best = attempt
        if best["coverage"] >= COVERAGE:
            break
    return best
