"""Memory that runs out outside of training's own steps: which setting to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchsuite.errors import BenchsuiteError
from benchsuite.latent.config import Config


@contextmanager
def in_evaluation(config: Config) -> Iterator[None]:
    """Turn memory that runs out in decoding or a held-out loss into the setting to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        # The CPU's allocator raises a plain RuntimeError.
        full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        size = config.evaluation.batch_size
        raise BenchsuiteError(
            f"out of memory in evaluating {config.name} with batches of {size}",
            f"evaluation.batch_size = {size}",
            f"lower it to {size // 2}"
            if size > 1
            else "choose a smaller model, or a device with more memory",
        ) from error
