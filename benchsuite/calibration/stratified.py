"""Equal shares of short, middle and long documents."""

import random

import numpy as np

from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.calibration.tokens import (
    as_batch,
    document_tokens,
    fill,
    require_tokens,
    text_tokens,
)
from benchsuite.models.progress import Progress

STRATA = ("short", "middle", "long")


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Selection:
    """Return a third of the chunks from each tercile of document length, in tokens.

    The documents, ordered by length, are cut in three. Each tercile is shuffled by the seed; its
    documents are joined with blank lines until they hold its share of chunks, tokenized without
    specials and cut. Raises ``CorpusTooShort`` if a tercile does not fill one sequence.
    """
    account = Account(pool)
    lengths = np.array([len(tokens) for tokens in document_tokens(pool, account)])
    order = np.argsort(lengths, kind="stable")
    generator = random.Random(seed)
    parts, strata = [], {}
    for index, (name, members) in enumerate(zip(STRATA, np.array_split(order, 3), strict=True)):
        share = n_samples // 3 + (index < n_samples % 3)
        if not share:
            continue
        require_tokens(int(lengths[members].sum()), seq_len, f"a chunk of {name} documents")
        chosen = _until(lengths, _shuffled(members, generator), share * seq_len)
        chunks, overlapping = fill(text_tokens(pool, chosen), share, seq_len, generator)
        parts.append(chunks)
        strata[name] = {
            "n_samples": share,
            "n_documents": len(chosen),
            "shortest": int(lengths[members].min()),
            "longest": int(lengths[members].max()),
            "overlapping_chunks": overlapping,
        }
    return account.close(as_batch(pool, np.concatenate(parts)), sampler="stratified", strata=strata)


def _shuffled(members: np.ndarray, generator: random.Random) -> list[int]:
    shuffled = members.tolist()
    generator.shuffle(shuffled)
    return shuffled


def _until(lengths: np.ndarray, members: list[int], needed: int) -> list[int]:
    """Return the first members that hold the needed tokens, and a tenth more.

    The joined text can have fewer tokens than its documents: a tokenizer merges at the seams.
    """
    held = np.cumsum(lengths[members])
    return members[: int(np.searchsorted(held, 1.1 * needed)) + 1]
