"""COLA-Zero's balanced variant: reduced TF-IDF, length and diversity, no perplexity.

TF-IDF is reduced to 100 dimensions and weighs a tenth, so that length and diversity count. The
chosen documents grow from one to 32 per cluster until they cover the tokens needed.
"""

from collections.abc import Mapping

import numpy as np

from benchsuite.calibration import features
from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.calibration.tokens import as_batch, cut_clusters, document_tokens
from benchsuite.calibration.typical import COVERAGE, typical
from benchsuite.models.progress import Progress

WEIGHTS = {"tfidf": 0.1, "length": 1.0, "diversity": 1.0}
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
    progress: Progress | None = None,
) -> Selection:
    """Return chunks, cut with stride ``seq_len``, of the documents nearest the clusters' centres.

    BOS, EOS and PAD are stripped before cutting and nothing is padded. ``weights`` replaces some of
    ``WEIGHTS``; ``max_documents`` caps the documents considered, the same ones for every seed.
    Raises ``CorpusTooShort`` when there are fewer long documents than clusters.
    """
    account = Account(pool)
    tokens = document_tokens(pool, account)
    lengths = np.array([len(t) for t in tokens])
    documents = features.long_enough(lengths, min_tokens, max_documents, n_samples)
    columns = {
        "tfidf": features.reduced_tfidf(pool, account, documents, COMPONENTS),
        **features.extent(tokens, documents),
    }
    for found in typical(
        documents,
        columns,
        lengths,
        range(1, MOST_PER_CLUSTER + 1),
        n_samples=n_samples,
        seq_len=seq_len,
        seed=seed,
        weights={**WEIGHTS, **(weights or {})},
        weights_before_scaling=weights_before_scaling,
        device=pool.device,
    ):
        if found.coverage >= COVERAGE:
            break
    cut = cut_clusters(pool, found.by_cluster, n_samples, seq_len, seed, COVERAGE, _marks(pool))
    return account.close(
        as_batch(pool, cut.chunks),
        sampler="cola_balanced",
        min_tokens=min_tokens,
        max_documents=max_documents,
        **found.details,
        **cut.details(),
    )


def _marks(pool: CalibrationPool) -> list[int]:
    """Return the ids of BOS, EOS and PAD, where the tokenizer has them."""
    tokenizer = pool.tokenizer
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return [i for i in ids if i is not None]
