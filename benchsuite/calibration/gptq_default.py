"""The first chunks of the corpus, as GPTQ's own examples take them: the same for every seed."""

from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.calibration.tokens import (
    as_batch,
    consecutive_chunks,
    joined_tokens,
    require_tokens,
)
from benchsuite.models.progress import Progress


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Selection:
    """Return chunk i = tokens ``[i * seq_len, (i + 1) * seq_len)`` of the joined documents.

    ``seed`` is not used. Raises ``CorpusTooShort``.
    """
    account = Account(pool)
    tokens = joined_tokens(pool, account)
    require_tokens(len(tokens), n_samples * seq_len, f"{n_samples} x {seq_len}")
    batch = as_batch(pool, consecutive_chunks(tokens, n_samples, seq_len))
    return account.close(batch, sampler="gptq_default", pool_tokens=len(tokens))
