"""A model that runs somewhere else and is asked by token ids: a server, say."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchsuite.models.progress import Progress


class Elsewhere(ABC):
    """What ``generate`` and ``log_likelihoods`` ask where there is no model in this process.

    ``config`` names ``max_position_embeddings``, None where it is not known, as a model's does.
    """

    config: Any

    @abstractmethod
    def texts(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        ends: Sequence[int],
        progress: Progress | None,
    ) -> list[tuple[str, str]]:
        """Return the greedy text after each prompt, and what ended it as ``Generation`` says.

        Texts are cut before the first of ``stop`` and before a token of ``ends``.
        """

    @abstractmethod
    def log_likelihoods(
        self,
        prefixes: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        progress: Progress | None,
    ) -> list[np.ndarray]:
        """Return the log-probabilities of each continuation's tokens, float64 [length], in nats."""
