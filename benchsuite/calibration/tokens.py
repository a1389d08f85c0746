"""Tokens out of documents, and calibration sequences out of tokens."""

import bisect
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from benchsuite.calibration.pool import Account, Arrays, CalibrationPool
from benchsuite.errors import BenchsuiteError
from benchsuite.models.first_token import required_first_token

SEPARATOR = "\n\n"


class CorpusTooShort(BenchsuiteError):
    """The pool holds fewer tokens or documents than a sampler needs."""


def encode(tokenizer: Any, text: str, *, special: bool) -> np.ndarray:
    """Return a text's token ids, int64 ``[n]``, without truncation or length warning."""
    if getattr(tokenizer, "is_fast", False):
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        # Without each token's place in the text, which takes longer to find than the tokens.
        (found,) = backend.encode_batch_fast([text], add_special_tokens=special)
        return np.array(found.ids, dtype=np.int64)
    ids = tokenizer(text, add_special_tokens=special, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]
    return np.asarray(ids, dtype=np.int64)


def joined_tokens(pool: CalibrationPool, account: Account) -> np.ndarray:
    """Return the tokens of all documents joined with blank lines, with specials, int32 ``[n]``.

    They depend on corpus and tokenizer alone, so all samplers, seeds and models share them.
    """
    key = {
        "feature": "joined_tokens",
        "corpus": pool.corpus_key,
        "tokenizer": pool.tokenizer_key,
    }

    def build() -> Arrays:
        ids = encode(pool.tokenizer, SEPARATOR.join(pool.documents), special=True)
        return {"ids": ids.astype(np.int32)}

    return account.fetch(key, build)["ids"]


def document_tokens(pool: CalibrationPool, account: Account) -> list[np.ndarray]:
    """Return the tokens of each document, without specials, one int32 array per document."""
    key = {
        "feature": "document_tokens",
        "corpus": pool.corpus_key,
        "tokenizer": pool.tokenizer_key,
    }

    def build() -> Arrays:
        rows = pool.tokenizer(
            list(pool.documents),
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        flat = [np.asarray(row, dtype=np.int32) for row in rows]
        ends = np.cumsum([len(row) for row in flat], dtype=np.int64)
        return {"ids": np.concatenate([*flat, np.empty(0, np.int32)]), "ends": ends}

    arrays = account.fetch(key, build)
    return np.split(arrays["ids"], arrays["ends"][:-1])


def text_tokens(pool: CalibrationPool, documents: Iterable[int]) -> np.ndarray:
    """Return the tokens of some documents joined with blank lines, without specials, int64 ``[n]``.

    They are counted anew: a tokenizer may merge what meets at a seam.
    """
    text = SEPARATOR.join(pool.documents[i] for i in documents)
    return encode(pool.tokenizer, text, special=False)


def consecutive_chunks(tokens: np.ndarray, n_samples: int, seq_len: int) -> np.ndarray:
    """Return the first non-overlapping chunks, at most ``n_samples``, int64 ``[m, seq_len]``."""
    n = min(n_samples, len(tokens) // seq_len)
    return tokens[: n * seq_len].reshape(n, seq_len).astype(np.int64)


def chunks_at(tokens: np.ndarray, starts: list[int], seq_len: int) -> np.ndarray:
    """Return the chunks that begin at ``starts``, int64 ``[len(starts), seq_len]``."""
    index = np.asarray(starts, dtype=np.int64).reshape(-1, 1) + np.arange(seq_len)
    return tokens[index].astype(np.int64)


def fill(
    tokens: np.ndarray, n_samples: int, seq_len: int, generator: random.Random
) -> tuple[np.ndarray, int]:
    """Cut ``n_samples`` chunks: non-overlapping from the start, then random overlapping ones.

    Returns int64 ``[n_samples, seq_len]`` and how many of them are overlapping. Raises
    ``CorpusTooShort`` if not one chunk fits.
    """
    require_tokens(len(tokens), seq_len, "one sequence")
    chunks = consecutive_chunks(tokens, n_samples, seq_len)
    missing = n_samples - len(chunks)
    starts = [generator.randint(0, len(tokens) - seq_len) for _ in range(missing)]
    return np.concatenate([chunks, chunks_at(tokens, starts, seq_len)]), missing


class Cut(NamedTuple):
    """Chunks int64 ``[n_samples, seq_len]``, the documents that they are of, and how many overlap.

    ``most_per_cluster`` is the most tokens that a cluster gave, None where each gave all it had.
    """

    chunks: np.ndarray
    documents: list[int]
    overlapping: int
    most_per_cluster: int | None

    def details(self) -> dict[str, Any]:
        """Return what a selection says of the documents that were used."""
        return {
            "n_documents": len(self.documents),
            "documents": self.documents,
            "tokens_per_cluster": self.most_per_cluster,
            "overlapping_chunks": self.overlapping,
        }


def cut_clusters(
    pool: CalibrationPool,
    clusters: Sequence[Sequence[int]],
    n_samples: int,
    seq_len: int,
    seed: int,
    coverage: float,
    without: Sequence[int] = (),
) -> Cut:
    """Cut chunks from the documents of clusters, joined with blank lines; ids ``without`` left out.

    Where the documents hold at most ``coverage`` times what is needed, they are joined cluster by
    cluster and cut from the start, as published. Where they hold more, that would leave out whole
    clusters, the more the shorter ``seq_len`` is. So none then gives more than an even share: the
    least number of tokens that, taken of each cluster's first, is enough.
    """
    needed = n_samples * seq_len
    parts = [_without(text_tokens(pool, documents), without) for documents in clusters]
    most = None
    if sum(len(part) for part in parts) > coverage * needed:
        most = _even_share([len(part) for part in parts], needed)
        parts = [part[:most] for part in parts]
        tokens, used = np.concatenate(parts), []
        for documents, part in zip(clusters, parts, strict=True):
            used += _begun(pool, documents, len(part))
    else:
        every = [document for documents in clusters for document in documents]
        tokens = _without(text_tokens(pool, every), without)
        used = _begun(pool, every, min(needed, len(tokens)))
    chunks, overlapping = fill(tokens, n_samples, seq_len, random.Random(seed))
    return Cut(chunks, used, overlapping, most)


def _without(tokens: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    return tokens[~np.isin(tokens, ids)]


def _even_share(lengths: Sequence[int], needed: int) -> int:
    """Return the least number of tokens that is enough when taken of each length, at most all."""
    given = 0
    for place, length in enumerate(sorted(lengths)):
        share = -(-(needed - given) // (len(lengths) - place))
        if share <= length:
            return share
        given += length
    return max(lengths)


def _begun(pool: CalibrationPool, documents: Sequence[int], n_tokens: int) -> list[int]:
    """Return the first documents, as many as hold so many tokens when joined."""

    def held(n_documents: int) -> int:
        return len(text_tokens(pool, documents[:n_documents]))

    enough = bisect.bisect_left(range(len(documents)), n_tokens, key=held)
    return list(documents[:enough])


def require_tokens(found: int, needed: int, purpose: str) -> None:
    """Raise ``CorpusTooShort`` unless there are as many tokens as needed."""
    if found < needed:
        raise CorpusTooShort(
            f"the calibration pool holds {found} tokens and {purpose} needs {needed}",
            fix="Use a larger corpus, fewer samples (n_calibration_samples) or a shorter seq_len",
        )


def as_batch(pool: CalibrationPool, chunks: np.ndarray) -> torch.Tensor:
    """Return chunks ``[n_samples, seq_len]`` as the selection's batch, int64 on the CPU, a copy.

    Of a model that reads no text without its first token each begins with it: it stands before
    one token less of the text, unless it is there already.
    """
    batch = torch.tensor(chunks, dtype=torch.int64)
    first = required_first_token(pool.tokenizer)
    if first is None:
        return batch
    begun = torch.cat([torch.full_like(batch[:, :1], first), batch[:, :-1]], 1)
    return torch.where(batch[:, :1] == first, batch, begun)
