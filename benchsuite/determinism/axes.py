"""The axes along which an engine is repeated: one thing changes, everything else stays.

Each axis gives its own answer: what is bit-exact from run to run may well differ between batches,
and what does not may come from a fresh process, another thread count or another GPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchsuite.determinism.kernels import classified
from benchsuite.determinism.numbers import bits_equal, compared, statistics
from benchsuite.engines.process import EngineError, EngineProcess, Generated

Prompts = Sequence[Sequence[int]]

PROFILED_STEPS = 3


@dataclass(frozen=True)
class Repeated:
    """Repetitions of the identical batch of one: ``tokens``, ``logprobs`` [repetitions, steps]."""

    tokens: np.ndarray
    logprobs: np.ndarray

    @property
    def stats(self) -> dict[str, Any]:
        """The INT4 guide's statistics over the repetitions."""
        return statistics(self.tokens, self.logprobs)

    def as_dict(self) -> dict[str, Any]:
        """Return ``stats``, ``tokens`` and ``logprobs``, the INT4 guide's object of a test."""
        return {
            "stats": self.stats,
            "tokens": self.tokens.tolist(),
            "logprobs": self.logprobs.tolist(),
        }

    def against(self, other: "Repeated | Generated", **condition: Any) -> dict[str, Any]:
        """Return how far the first repetition of ``other`` is from this first one."""
        difference = compared(self.tokens[0], self.logprobs[0], other.tokens[0], other.logprobs[0])
        return {**condition, **difference}


def repeat(
    engine: EngineProcess, prompt: Sequence[int], repetitions: int, max_tokens: int
) -> Repeated:
    """Ask for the same completion ``repetitions`` times in one process, alone in its batch."""
    made = [engine.generate([prompt], max_tokens) for _ in range(repetitions)]
    return Repeated(
        np.concatenate([one.tokens for one in made]),
        np.concatenate([one.logprobs for one in made]),
    )


def batch_invariance(
    engine: EngineProcess, prompts: Prompts, baseline: Repeated, others: Sequence[int]
) -> dict[str, Any]:
    """Compare ``prompts[0]`` alone with itself among ``others``, first and last in the batch.

    The others are the next prompts, as long as the first. Each batch is asked for twice: where that
    alone differs, the difference is the run's and not the batch's.
    """
    max_tokens, rows = baseline.tokens.shape[1], []
    for n in others:
        for place, at in (("first", 0), ("last", n)):
            batch = batch_of(prompts, n, at)
            made, again = (engine.generate(batch, max_tokens)[at] for _ in range(2))
            repeats = bits_equal(made.logprobs, again.logprobs)
            row = baseline.against(made, others=n, place=place, batch_size=n + 1)
            rows.append({**row, "same_batch_repeats": repeats})
    return axis(rows)


def prefill_scoring(
    engine: EngineProcess, prompt: Sequence[int], baseline: Repeated
) -> dict[str, Any]:
    """Compare the log-probs of decoded tokens with those of reading them all at once.

    ``same_choices`` says whether each token is the most probable one there, too.
    """
    tokens = baseline.tokens[:1]
    try:
        read = engine.score([[*prompt, *tokens[0].tolist()]])
    except EngineError as error:
        return untested(str(error))
    steps = tokens.shape[1]
    found = Generated(tokens, np.array([read["logprobs"][0][-steps:]], np.float64))
    same = read["best"][0][-steps:] == tokens[0].tolist()
    return axis([baseline.against(found, condition="prefill_scoring", same_choices=same)])


def batch_of(prompts: Prompts, others: int, at: int = 0) -> list[Sequence[int]]:
    """Return the first prompt at position ``at`` among the next ``others``."""
    batch = list(prompts[1 : others + 1])
    batch.insert(at, prompts[0])
    return batch


def kernels_seen(
    engine: EngineProcess, prompts: Prompts, others: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return the kernels of the prompt ``alone`` and ``in_batch`` with the most others.

    A few steps show every kernel: reading the prompt, and a token after it.
    """
    batches = {"alone": batch_of(prompts, 0), "in_batch": batch_of(prompts, max(others, default=0))}
    return {name: _profile(engine, batch) for name, batch in batches.items()}


def _profile(engine: EngineProcess, batch: Prompts) -> dict[str, Any]:
    try:
        seen = engine.kernels(batch, PROFILED_STEPS)
    except EngineError as error:  # evidence beside the measurement: it does not end it
        seen = {"profiling_succeeded": False, "all_kernels": [], "error": str(error)}
    return classified(seen)


def axis(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one axis' answer over its comparisons with the baseline: ``exact`` is of all bits."""
    return {
        "tested": bool(rows),
        "exact": all(row["logprobs_exact"] for row in rows) if rows else None,
        "tokens_identical": all(row["tokens_identical"] for row in rows) if rows else None,
        "l2_max": max((row["l2"] for row in rows), default=None),
        "comparisons": [dict(row) for row in rows],
    }


def untested(reason: str) -> dict[str, Any]:
    """Return the answer of an axis that could not be tried, and why."""
    return {**axis(()), "reason": reason}
