"""Whether two engines compute the same from the same weights, within a tolerance.

Compared are the log-probabilities of given tokens (teacher-forced), the most probable token at each
of these places, and greedy completions. A choice is *decided* where the first engine's margin
between its two best tokens is at least the tolerance: there both must choose alike. A completion
counts as far as it is decided, since after an open choice the two continue different texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchsuite.evaluation.forced import Expectation

WEIGHT_ONLY = 0.1
"""Nats. Four times what rounding to float16 does by itself to the log-probabilities of a random
network of 16 layers with logits of standard deviation 4 (0.024 at most over 190 tokens)."""

ROUNDED_INPUTS = 1.0
"""Nats, with activations rounded to 8 bits: there a difference in a last bit moves an activation to
the next integer, 1/127 of its token's largest. Twice what that does on its own (0.53)."""


@dataclass(frozen=True)
class Agreement:
    """What two engines have in common; see the module's text.

    ``largest`` and ``mean`` absolute difference of ``n_tokens`` log-probabilities in nats;
    ``n_alike`` of ``n_decided`` most probable tokens are the same; ``greedy_alike`` of
    ``greedy_decided`` greedy tokens.
    """

    tolerance: float
    n_tokens: int
    largest: float
    mean: float
    n_decided: int
    n_alike: int
    greedy_decided: int
    greedy_alike: int

    @property
    def holds(self) -> bool:
        """Whether log-probabilities lie within the tolerance and all decided choices are alike."""
        alike = self.n_alike == self.n_decided and self.greedy_alike == self.greedy_decided
        return self.largest <= self.tolerance and alike


def agreement(
    ours: Sequence[Expectation],
    log_probs: Sequence[Sequence[float]],
    best: Sequence[Sequence[int]],
    chosen: Sequence[Expectation],
    tokens: np.ndarray,
    *,
    tolerance: float,
) -> Agreement:
    """Compare an engine with ours.

    ``ours`` is the expectation of given rows, ``log_probs`` and ``best`` the other engine's of the
    same; ``chosen`` is ours of our own greedy completions, ``tokens`` int64 [rows, steps] are the
    other's completions of the same prompts.
    """
    difference = distance(ours, log_probs)
    decided = np.concatenate([row.margins for row in ours]) >= tolerance
    alike = np.concatenate([row.best for row in ours]) == np.concatenate(best)
    lengths = [_decided_steps(row.margins, tolerance) for row in chosen]
    same = [
        int((row.best[:n] == their[:n]).cumprod().sum())
        for row, their, n in zip(chosen, tokens, lengths, strict=True)
    ]
    return Agreement(
        tolerance,
        len(difference),
        float(difference.max()),
        float(difference.mean()),
        int(decided.sum()),
        int((decided & alike).sum()),
        sum(lengths),
        sum(same),
    )


def distance(ours: Sequence[Expectation], log_probs: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the absolute differences of all rows' log-probabilities, float64 [tokens]."""
    mine = np.concatenate([row.log_probs for row in ours])
    return np.abs(mine - np.concatenate([np.asarray(row, np.float64) for row in log_probs]))


def _decided_steps(margins: np.ndarray, tolerance: float) -> int:
    """Return the number of leading steps that are decided."""
    return int((margins >= tolerance).cumprod().sum())
