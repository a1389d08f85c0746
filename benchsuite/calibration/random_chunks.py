"""Random chunks of the corpus, the usual baseline; chunks may overlap."""

import random

from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.calibration.tokens import as_batch, chunks_at, joined_tokens, require_tokens
from benchsuite.models.progress import Progress


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Selection:
    """Return chunks at ``random.Random(seed)`` starts in [0, total - seq_len - 1], both included.

    ``total`` counts the tokens of the joined documents, specials included. Raises
    ``CorpusTooShort`` when not one start is possible.
    """
    account = Account(pool)
    tokens = joined_tokens(pool, account)
    require_tokens(len(tokens), seq_len + 1, "one random start")
    generator = random.Random(seed)
    starts = [generator.randint(0, len(tokens) - seq_len - 1) for _ in range(n_samples)]
    batch = as_batch(pool, chunks_at(tokens, starts, seq_len))
    return account.close(batch, sampler="random", pool_tokens=len(tokens), starts=starts)
