"""Can served tokens alone tell a variant from the model it claims to be? Token-DiFR's rates.

Scores come from a trusted reference (`benchsuite.engines.divergence`). A verifier takes the mean
score of some tokens, sets a threshold on honest ones that he holds, and raises the alarm above it.
Prompts are the unit of all resampling, because a prompt's tokens share what they follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from benchsuite.engines.process import EngineProcess

CLIP = 0.5
"""The largest margin that counts, in units of the logits: that of the authors' classifiers."""

LEVEL = 0.05
"""The share of honest batches on which a verifier is willing to raise the alarm."""

TOKENS = (30, 100, 300, 1000)
ENOUGH = 0.95
"""The share of batches that must raise the alarm where a variant is said to be told apart."""

FEW_BATCHES = 10
SPLITS, BATCHES, BOOTSTRAPS = 20, 50, 400
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Served:
    """Tokens that were served after prompts, and what a reference says of each.

    ``tokens`` and ``ranks`` int64, ``margins`` float64, all [prompts, steps].
    """

    tokens: np.ndarray
    ranks: np.ndarray
    margins: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """The clipped margins [prompts, steps], which an infinite one cannot outweigh."""
        return np.minimum(self.margins, CLIP)

    def summary(self) -> dict[str, Any]:
        """Return how many tokens there are, and how near they are to the reference's choices."""
        return {
            "prompts": len(self.tokens),
            "tokens": self.tokens.size,
            "same_tokens": float((self.ranks == 0).mean()),
            "mean_rank": float(self.ranks.mean()),
            "mean_score": float(self.scores.mean()),
        }

    def columns(self) -> dict[str, np.ndarray]:
        """Return the record's per-item columns, a row a token."""
        prompts = np.repeat(np.arange(len(self.tokens)), self.tokens.shape[1])
        return {
            "served_prompt": prompts,
            "served_token": self.tokens.ravel(),
            "served_rank": self.ranks.ravel(),
            "served_margin": self.margins.ravel(),
        }

    @classmethod
    def from_rows(cls, tokens: Any, ranks: Any, margins: Any) -> "Served":
        """Return it of lists of rows."""
        return cls(
            np.array(tokens, np.int64), np.array(ranks, np.int64), np.array(margins, np.float64)
        )

    @classmethod
    def from_columns(cls, columns: Any) -> "Served | None":
        """Return what a record's columns hold, None where nothing was served."""
        if "served_margin" not in columns:
            return None
        n = int(columns["served_prompt"][-1]) + 1
        names = ("served_token", "served_rank", "served_margin")
        return cls(*(np.asarray(columns[name]).reshape(n, -1) for name in names))


def serve(
    engine: EngineProcess, prompts: Sequence[Sequence[int]], max_tokens: int, batch: int
) -> list[list[int]]:
    """Return ``max_tokens`` tokens after each prompt, ``batch`` prompts at once."""
    rows: list[list[int]] = []
    for start in range(0, len(prompts), batch):
        rows += engine.generate(prompts[start : start + batch], max_tokens).tokens.tolist()
    return rows


def judge(
    reference: EngineProcess, prompts: Sequence[Sequence[int]], served: Sequence[Sequence[int]]
) -> Served:
    """Return what the reference says of tokens served after prompts."""
    return Served.from_rows(served, **reference.judge(prompts, served))


def area(honest: np.ndarray, other: np.ndarray) -> float:
    """Return the chance that one of ``other`` [m] exceeds one of ``honest`` [n], ties half."""
    ordered = np.sort(honest)
    below = np.searchsorted(ordered, other, "left") + np.searchsorted(ordered, other, "right")
    return float(below.mean() / (2 * len(ordered)))


def rates(
    honest: np.ndarray,
    other: np.ndarray,
    *,
    tokens: Sequence[int] = TOKENS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well scores [prompts, steps] tell ``other`` from ``honest``, the same prompts.

    ``token_auc`` is of single tokens. A row for each number of ``tokens`` has, over random halves
    of the prompts: the mean ``threshold``, set on one half's honest scores so that a share
    ``level`` of honest batches exceeds it; ``false_alarms`` and ``detected``, the shares of batches
    of the other half that do exceed it; ``auc`` of those batches' means. ``batches`` is how many
    batches without a common prompt there are: with few of them (``few``) the shares are rough. A
    number that needs more prompts than half of them has None for all of it.
    """
    draw, steps = np.random.default_rng(seed), honest.shape[1]
    rows = [_row(honest, other, n, -(-n // steps), level, draw) for n in tokens]
    return {"token_auc": area(honest.ravel(), other.ravel()), "level": level, "rows": rows}


def pairs(served: Mapping[str, Served]) -> list[dict[str, Any]]:
    """Return the ``rates`` of every two variants, the nearer to the reference as the honest one.

    Only variants that served after the same prompts mean anything beside each other.
    """
    near = sorted(served, key=lambda name: float(served[name].scores.mean()))
    return [
        {"honest": one, "other": other, **rates(served[one].scores, served[other].scores)}
        for one, other in combinations(near, 2)
        if served[one].tokens.shape == served[other].tokens.shape
    ]


def tokens_needed(found: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first row of ``rates`` at which the other is told apart, None where none is."""
    told = (row for row in found["rows"] if (row["detected"] or 0.0) >= ENOUGH)
    return next(told, None)


def _row(
    honest: np.ndarray,
    other: np.ndarray,
    n: int,
    k: int,
    level: float,
    draw: np.random.Generator,
) -> dict[str, Any]:
    """Return the rates of batches of ``n`` tokens, which take ``k`` prompts."""
    half, batches = len(honest) // 2, len(honest) // k
    row = {"tokens": n, "batches": batches, "few": batches < FEW_BATCHES}
    if k > half:
        return {**row, **dict.fromkeys(("threshold", "false_alarms", "detected", "auc"))}
    mine, theirs = _sums(honest, n, k), _sums(other, n, k)
    found = []
    for _ in range(SPLITS):
        order = draw.permutation(len(honest))
        held, rest = order[:half], order[half:]
        threshold = _threshold(honest[held], n, k, level, draw)
        one, two = (_means(sums, rest, k, n, draw) for sums in (mine, theirs))
        alarms = [float((means > threshold + _ROUNDING).mean()) for means in (one, two)]
        found.append((threshold, *alarms, area(one, two)))
    values = np.mean(found, axis=0).tolist()
    return {
        **row,
        **dict(zip(("threshold", "false_alarms", "detected", "auc"), values, strict=True)),
    }


def _sums(scores: np.ndarray, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts' whole sums, and those of the tokens that a batch takes of its last."""
    return scores.sum(1), scores[:, : n - (k - 1) * scores.shape[1]].sum(1)


def _means(
    sums: tuple[np.ndarray, np.ndarray], rows: np.ndarray, k: int, n: int, draw: Any
) -> np.ndarray:
    """Return the means of ``BATCHES`` batches of ``k`` different prompts of ``rows``."""
    chosen = rows[draw.random((BATCHES, len(rows))).argsort(1)[:, :k]]
    return _mean(sums, chosen, n)


def _mean(sums: tuple[np.ndarray, np.ndarray], chosen: np.ndarray, n: int) -> np.ndarray:
    whole, last = sums
    return (whole[chosen[:, :-1]].sum(1) + last[chosen[:, -1]]) / n


def _threshold(scores: np.ndarray, n: int, k: int, level: float, draw: Any) -> float:
    """Return what the mean of a batch from the same source exceeds with the chance ``level``.

    A bootstrap of the batch and of the held scores themselves: their own mean is not known exactly
    either, and a verifier who forgot that would raise the alarm too often.
    """
    batches = _mean(_sums(scores, n, k), draw.integers(len(scores), size=(BOOTSTRAPS, k)), n)
    whole = scores.mean(1)
    again = whole[draw.integers(len(scores), size=(BOOTSTRAPS, len(scores)))].mean(1)
    return float(np.quantile(batches - again + whole.mean(), 1 - level, method="higher"))
