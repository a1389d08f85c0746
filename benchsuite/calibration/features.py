"""What clustering samplers know of a document: TF-IDF, perplexity, length, diversity.

None of it depends on the cell's seed, so each is computed once per corpus, tokenizer and model.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchsuite.calibration.pool import Account, Arrays, CalibrationPool, capped
from benchsuite.calibration.tokens import CorpusTooShort
from benchsuite.models.progress import Progress

TFIDF = {
    "max_features": 5000,
    "ngram_range": (1, 2),
    "min_df": 2,
    "max_df": 0.95,
    "sublinear_tf": True,
}


def long_enough(
    lengths: np.ndarray, min_tokens: int, max_documents: int | None, n_clusters: int
) -> np.ndarray:
    """Return the indices, int64 ``[m]``, of documents of at least ``min_tokens`` tokens, capped.

    ``lengths`` int64 ``[n]`` are the documents' tokens. Raises ``CorpusTooShort`` when there are
    fewer than clusters.
    """
    found = capped(np.flatnonzero(lengths >= min_tokens), max_documents)
    if len(found) < n_clusters:
        raise CorpusTooShort(
            f"the calibration pool holds {len(found)} documents of at least {min_tokens} tokens "
            f"({len(lengths)} documents, {lengths.sum()} tokens in all) and {n_clusters} clusters "
            f"need {n_clusters}",
            fix="Use a larger corpus, a larger max_documents or fewer samples "
            "(n_calibration_samples)",
        )
    return found


def tfidf(pool: CalibrationPool, account: Account, documents: np.ndarray) -> sparse.csr_matrix:
    """Return TF-IDF rows, float64 ``[len(documents), at most 5000]``, of words and word pairs."""
    key = {
        "feature": "tfidf",
        "corpus": pool.corpus_key,
        "documents": _indices_digest(documents),
        "settings": {name: str(value) for name, value in TFIDF.items()},
    }

    def build() -> Arrays:
        from sklearn.feature_extraction.text import TfidfVectorizer

        try:
            rows = TfidfVectorizer(**TFIDF).fit_transform([pool.documents[i] for i in documents])
        except ValueError as error:
            raise CorpusTooShort(
                f"no word of the {len(documents)} documents is in at least "
                f"{TFIDF['min_df']} and at most {TFIDF['max_df']:.0%} of them",
                fix="Use a larger or more varied corpus",
            ) from error
        return {
            "data": rows.data,
            "indices": rows.indices.astype(np.int32),
            "indptr": rows.indptr.astype(np.int64),
            "shape": np.array(rows.shape),
        }

    a = account.fetch(key, build)
    return sparse.csr_matrix((a["data"], a["indices"], a["indptr"]), shape=tuple(a["shape"]))


def reduced_tfidf(
    pool: CalibrationPool, account: Account, documents: np.ndarray, n_components: int
) -> np.ndarray:
    """Return TF-IDF reduced by a truncated SVD, float64 ``[len(documents), n_components]``.

    Fewer components where the rank allows no more.
    """
    rows = tfidf(pool, account, documents)
    n_components = min(n_components, min(rows.shape) - 1)
    key = {
        "feature": "tfidf_svd",
        "corpus": pool.corpus_key,
        "documents": _indices_digest(documents),
        "settings": {name: str(value) for name, value in TFIDF.items()},
        "n_components": n_components,
    }

    def build() -> Arrays:
        from sklearn.decomposition import TruncatedSVD

        with threadpool_limits(limits=1):
            svd = TruncatedSVD(n_components=n_components, random_state=0)
            return {"rows": svd.fit_transform(rows)}

    return account.fetch(key, build)["rows"]


def diversity(tokens: np.ndarray) -> float:
    """Return the share of distinct ones among tokens ``[n]``, 0 for a text without tokens."""
    return len(np.unique(tokens)) / len(tokens) if len(tokens) else 0.0


def extent(tokens: Sequence[np.ndarray], documents: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``length`` and ``diversity`` of some documents of the pool, float64 ``[m, 1]`` each.

    ``tokens`` are those of every document, ``documents`` int64 ``[m]`` the indices of these.
    """
    rows = [tokens[i] for i in documents]
    return {
        "length": np.array([[float(len(row))] for row in rows]),
        "diversity": np.array([[diversity(row)] for row in rows]),
    }


def document_perplexities(
    pool: CalibrationPool,
    account: Account,
    documents: np.ndarray,
    *,
    max_length: int,
    batch_size: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return exp of each document's mean NLL under the scoring model, float64 ``[n]``.

    Only the first ``max_length`` tokens count, specials included.
    """
    scorer = pool.scorer
    key = {
        "feature": "document_perplexity",
        "corpus": pool.corpus_key,
        "documents": _indices_digest(documents),
        "scoring_model": scorer.digest,
        "tokenizer": scorer.tokenizer_digest,
        "max_length": max_length,
        "batch_size": batch_size,
    }

    def build() -> Arrays:
        texts = [pool.documents[i] for i in documents]
        rows = scorer.tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
        rows = [row[:max_length] for row in rows]
        # Alike lengths together: whole batches then need no padding and no mask.
        order = np.argsort([len(row) for row in rows], kind="stable")
        values = np.empty(len(rows))
        for at in range(0, len(rows), batch_size):
            batch = order[at : at + batch_size]
            values[batch] = _perplexities(scorer.model, [rows[i] for i in batch])
            if progress:
                progress("document perplexity", at + len(batch), len(rows))
        return {"perplexity": values}

    return account.fetch(key, build)["perplexity"]


@torch.inference_mode()
def _perplexities(model: torch.nn.Module, rows: list[list[int]]) -> list[float]:
    device = next(model.parameters()).device
    longest = max(2, *map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)  # padded on the right, masked out
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : len(row)] = 1
    ids, mask = ids.to(device), mask.to(device)
    attention = None if mask.all() else mask
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits  # [B, T, V]
    # The last position predicts nothing: masked rather than cut off, which would copy the logits.
    counted = torch.nn.functional.pad(mask[:, 1:], (0, 1))  # [B, T]
    targets = ids.roll(-1, dims=1).masked_fill(counted == 0, -100)
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
    )
    means = nll.reshape(targets.shape).double().sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return [math.exp(min(mean, 700.0)) for mean in means.tolist()]  # exp overflows at 709


def _indices_digest(documents: np.ndarray) -> str:
    return hashlib.sha256(documents.astype("<i8").tobytes()).hexdigest()
