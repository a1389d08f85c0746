"""COLA-Zero's balanced variant: reduced TF-IDF, length and diversity, no perplexity.

TF-IDF is reduced to 100 dimensions and weighs a tenth, so that length and diversity count. The
chosen documents grow from one to 32 per cluster until they cover the tokens needed.
"""

from collections.abc import Mapping

import numpy as np

from benchsuite.calibration import features
from benchsuite.calibration.clustering import kmeans, standardized_gram
from benchsuite.calibration.pool import Account, CalibrationPool, Progress, Selection
from benchsuite.calibration.tokens import as_batch, cut_clusters, document_tokens

WEIGHTS = {"tfidf": 0.1, "length": 1.0, "diversity": 1.0}
COVERAGE = 1.10
COMPONENTS = 100
MOST_PER_CLUSTER = 32


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    weights: Mapping[str, float] | None = None,
    weights_before_scaling: bool = False,
    min_tokens: int = 175,
    max_documents: int | None = 8192,
    n_init: int = 50,
    max_iter: int = 300,
    progress: Progress | None = None,
) -> Selection:
    """Return chunks, cut with stride ``seq_len``, of the documents nearest the clusters' centres.

    BOS, EOS and PAD are stripped before cutting and nothing is padded. ``weights`` replaces some of
    ``WEIGHTS``; ``max_documents`` caps the documents considered, the same ones for every seed.
    Raises ``CorpusTooShort`` when there are fewer long documents than clusters.
    """
    weighted = {**WEIGHTS, **(weights or {})}
    account = Account(pool)
    tokens = document_tokens(pool, account)
    lengths = np.array([len(t) for t in tokens])
    documents = features.long_enough(lengths, min_tokens, max_documents, n_samples)
    gram, shares = standardized_gram(
        [
            (features.reduced_tfidf(pool, account, documents, COMPONENTS), weighted["tfidf"]),
            (lengths[documents].astype(float)[:, None], weighted["length"]),
            (
                np.array([[features.diversity(tokens[i])] for i in documents]),
                weighted["diversity"],
            ),
        ],
        weights_before_scaling=weights_before_scaling,
        device=pool.device,
    )
    clusters = kmeans(gram, n_samples, seed, n_init=n_init, max_iter=max_iter)
    for per_cluster in range(1, MOST_PER_CLUSTER + 1):
        nearest = clusters.nearest(n_samples, per_cluster)
        chosen = [int(documents[i]) for members in nearest for i in members]
        coverage = float(lengths[chosen].sum() / (n_samples * seq_len))
        if coverage >= COVERAGE:
            break
    members = [[int(documents[i]) for i in cluster] for cluster in nearest]
    cut = cut_clusters(pool, members, n_samples, seq_len, seed, COVERAGE, _marks(pool))
    return account.close(
        as_batch(cut.chunks),
        sampler="cola_balanced",
        min_tokens=min_tokens,
        n_considered=len(documents),
        max_documents=max_documents,
        n_chosen=len(chosen),
        n_documents=len(cut.documents),
        documents=cut.documents,
        tokens_per_cluster=cut.most_per_cluster,
        documents_per_cluster=per_cluster,
        coverage=coverage,
        overlapping_chunks=cut.overlapping,
        weights=weighted,
        weights_before_scaling=weights_before_scaling,
        variance_shares=dict(zip(WEIGHTS, shares, strict=True)),
        n_init=n_init,
        max_iter=max_iter,
        inertia=clusters.inertia,
        n_iter=clusters.n_iter,
    )


def _marks(pool: CalibrationPool) -> list[int]:
    """Return the ids of BOS, EOS and PAD, where the tokenizer has them."""
    tokenizer = pool.tokenizer
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return [i for i in ids if i is not None]
