"""The noise that draws a completion: fixed by seed, prompt and step, wherever a prompt stands.

A token is drawn as the largest of ``logits / temperature + noise`` with standard Gumbel noise
(Maddison, Tarlow and Minka 2014). Whoever has seed and prompt can then say how far from being
drawn any other token was, which is what Token-DiFR asks (`benchsuite.engines.divergence`).
"""

import zlib
from collections.abc import Sequence

import numpy as np


def gumbel(prompts: Sequence[Sequence[int]], step: int, vocabulary: int, seed: int) -> np.ndarray:
    """Return float32 [prompts, vocabulary]: one stream for each prompt's own ids and step."""
    marks = [zlib.crc32(np.asarray(prompt, np.int64).tobytes()) for prompt in prompts]
    rows = [np.random.default_rng([seed, mark, step]).gumbel(size=vocabulary) for mark in marks]
    return np.stack(rows).astype(np.float32)
