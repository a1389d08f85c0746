"""Uniformly random token ids: a negative control that every text should beat."""

import torch

from benchsuite.calibration.pool import Account, CalibrationPool, Selection
from benchsuite.models.progress import Progress


def select(
    pool: CalibrationPool,
    n_samples: int,
    seq_len: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Selection:
    """Return ids drawn independently and uniformly from the whole vocabulary."""
    account = Account(pool)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randint(pool.vocab_size, (n_samples, seq_len), generator=generator)
    return account.close(batch, sampler="noise_tokens", vocab_size=pool.vocab_size)
