"""The numbers that draw a completion: fixed by seed and prompt, wherever in a batch it stands."""

import zlib
from collections.abc import Sequence

import numpy as np


def uniform(prompts: Sequence[Sequence[int]], steps: int, seed: int) -> np.ndarray:
    """Return float64 [prompts, steps] in [0, 1), one stream for each prompt's own ids."""
    marks = [zlib.crc32(np.asarray(prompt, np.int64).tobytes()) for prompt in prompts]
    return np.stack([np.random.default_rng([seed, mark]).random(steps) for mark in marks])
