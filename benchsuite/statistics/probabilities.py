"""Are stated probabilities of being right borne out? Brier score, calibration error, reliability.

AUROC asks whether wrong answers are less sure than right ones; this asks whether of those that are
80 % sure four in five are right.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchsuite.statistics.descriptive import proportion_interval
from benchsuite.statistics.item_tests import LEAST_ITEMS
from benchsuite.statistics.skewed import interval, skewness_of

BINS = 10
# How often answers are drawn that are right as often as they claim.
ROUNDS = 200


@dataclass(frozen=True)
class Bin:
    """Items of like probability: how many, their mean probability, and the share that is right.

    ``low`` and ``high`` bound that share (Wilson's 95 % interval).
    """

    n: int
    probability: float
    right: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from being borne out; None where ``reason`` says why.

    ``brier`` is the mean squared distance of the probability from 1 for a right item and 0 for a
    wrong one, ``brier_base`` that of the overall share of right ones. ``ece`` is the expected
    calibration error over ``bins`` of equally many items. It is above 0 for perfectly calibrated
    items too: ``ece_calibrated`` is what these probabilities would give if they were borne out, and
    ``ece_p_value`` how often they would give as much.
    """

    n: int
    brier: float | None = None
    brier_ci95: tuple[float, float] | None = None
    brier_base: float | None = None
    ece: float | None = None
    ece_calibrated: float | None = None
    ece_p_value: float | None = None
    bins: tuple[Bin, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as json-able data."""
        return asdict(self)


def calibration(right: npt.ArrayLike, probability: npt.ArrayLike) -> Calibration:
    """Return how ``probability`` float [n] in 0 ... 1 bears out ``right`` bool [n].

    Brier 1950; Naeini, Cooper and Hauskrecht 2015 with bins of equal size (Nguyen and O'Connor
    2015), whose bias is told by its value under calibration (Vaicenavicius et al. 2019). Raises
    ``ValueError`` for two of unequal length.
    """
    hits, stated = np.asarray(right, bool), np.asarray(probability, np.float64)
    if hits.shape != stated.shape or hits.ndim != 1:
        raise ValueError(
            f"labels {hits.shape} and probabilities {stated.shape} are not of a length"
        )
    n = len(hits)
    if n < LEAST_ITEMS:
        return Calibration(n, reason=f"n = {n} items: fewer than {LEAST_ITEMS}")
    if not ((stated >= 0) & (stated <= 1)).all():
        return Calibration(n, reason="some values are not probabilities")
    parts, base = _parts(stated), float(hits.mean())
    missed = (stated - hits) ** 2
    ece, drawn = _error(hits, stated, parts), _calibrated_errors(stated, parts)
    brier = float(missed.mean())
    error = float(missed.std(ddof=1)) / math.sqrt(n)
    low, high = interval(brier, error, n - 1, skewness_of(missed), 0.95)
    return Calibration(
        n,
        brier,
        (max(0.0, low), min(1.0, high)),
        base * (1 - base),
        ece,
        float(drawn.mean()),
        float((1 + np.count_nonzero(drawn >= ece)) / (1 + ROUNDS)),
        tuple(_bin(hits[part], stated[part]) for part in parts),
    )


def _parts(stated: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Return the items of each bin; equal probabilities are never parted."""
    order = np.argsort(stated, kind="stable")
    ranks = np.searchsorted(stated[order], stated[order], side="left")
    place = ranks * BINS // len(stated)
    return [order[place == number] for number in np.unique(place)]


def _error(
    hits: npt.NDArray[Any], stated: npt.NDArray[np.float64], parts: list[npt.NDArray[np.int64]]
) -> float:
    apart = [abs(float(hits[p].sum()) - float(stated[p].sum())) for p in parts]
    return sum(apart) / len(stated)


def _calibrated_errors(
    stated: npt.NDArray[np.float64], parts: list[npt.NDArray[np.int64]]
) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(0)
    drawn = rng.random((ROUNDS, len(stated))) < stated
    return np.array([_error(hits, stated, parts) for hits in drawn])


def _bin(hits: npt.NDArray[np.bool_], stated: npt.NDArray[np.float64]) -> Bin:
    n, n_right = len(hits), int(hits.sum())
    return Bin(n, float(stated.mean()), n_right / n, *proportion_interval(n_right, n))
