"""Does a score rank the positives above the negatives? AUROC, its interval, and paired differences.

AUROC is the chance that a positive drawn at random has a higher score than a negative one, ties
counting half (Mann and Whitney 1947; Fawcett 2006). Its standard error over items is DeLong's
(1988), each distinct item one observation however many seeds and scores met it. Where there is one
class only, there is no answer, and its reason is given instead of 0.5; with fewer than
``LEAST_OF_A_CLASS`` items of a class there is a value without interval or test.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, stdtrit

from benchsuite.statistics.item_tests import ItemDifference
from benchsuite.statistics.pairing import (
    LEAST_WORTH,
    ONE_CLUSTER,
    by_seed,
    effective_number,
    matched,
    units,
    where,
)
from benchsuite.statistics.skewed import interval, p_value

# With 1, 3 and 5 wrong answers of 400 the intervals of nominally 95 % cover 3, 78 and 89 %.
LEAST_OF_A_CLASS = 10
# Items of placement 1/2 added to each class for the end of an interval that is nearer to 1/2: ten
# well ranked items do not show that there is no other.
GUARD = 0.1
Columns = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]
Places = npt.NDArray[np.int64]


class Ranking(NamedTuple):
    """Which items are positive, bool [n], and their scores, float [n].

    ``ids`` [n] name the items, ``clusters`` [n] what they share; None where it is not known.
    """

    positive: npt.ArrayLike
    scores: npt.ArrayLike
    ids: Sequence[Hashable] | npt.NDArray[Any] | None = None
    clusters: Sequence[Hashable] | npt.NDArray[Any] | None = None


Rankings = Mapping[int, Sequence[Any]] | Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Auroc:
    """An AUROC with its interval; ``reason`` says why there is no value, or no interval."""

    value: float | None
    n: int
    n_positive: int
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str = ""

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


def auroc(positive: npt.ArrayLike, scores: npt.ArrayLike, *, confidence: float = 0.95) -> Auroc:
    """Return the AUROC of ``positive`` bool [n] under ``scores`` [n], higher meaning positive."""
    labels, values = arrays(positive, scores)
    reason = one_class(labels, values)
    n, n_positive = len(labels), int(labels.sum())
    if reason:
        return Auroc(None, n, n_positive, reason=reason)
    found = auroc_contrast([Term(1, labels, values)], confidence=confidence)
    value = _area(labels, values)
    return Auroc(value, n, n_positive, found.ci_low, found.ci_high, found.reason)


@dataclass(frozen=True)
class Term:
    """One AUROC of a contrast: its weight, which items are positive [n], and their scores [n].

    ``ids`` [n] name the items within a ``sample``, by default by their place: an item of that name
    is the same one in every term of that sample. ``clusters`` [n] are taken as one each. Terms of
    one ``arm`` are seeds of one thing, whose classes are counted together; by default a term is an
    arm of its own.
    """

    weight: float
    positive: npt.ArrayLike
    scores: npt.ArrayLike
    sample: Hashable = None
    ids: Sequence[Hashable] | npt.NDArray[Any] | None = None
    clusters: Sequence[Hashable] | npt.NDArray[Any] | None = None
    arm: Hashable = None

    def __len__(self) -> int:
        return len(np.asarray(self.scores))

    def only(self, kept: npt.NDArray[np.bool_]) -> "Term":
        """Return the items where ``kept`` bool [n] is true."""
        names = ("positive", "scores", "ids", "clusters")
        found: dict[str, Any] = {name: where(kept, getattr(self, name)) for name in names}
        return replace(self, **found)


def auroc_difference(
    first: Rankings,
    second: Rankings,
    *,
    confidence: float = 0.95,
) -> ItemDifference:
    """Return the difference of two arms' AUROCs over the items that both ranked.

    Each arm maps seed to ``Ranking``, its value is their mean. Two scores of one model share their
    labels; two models need not. ``p_value`` as in ``auroc_contrast``.
    """
    pair = matched(terms_of(first, 1), terms_of(second, -1))
    if pair.reason:
        found = ItemDifference("delong", pair.n_items, reason=pair.reason)
    else:
        found = auroc_contrast([*pair.a, *pair.b], confidence=confidence)
    return replace(found, n_left_out=pair.n_left_out, by=pair.by)


def terms_of(arm: Rankings, sign: int) -> dict[int, Term]:
    """Return an arm's seeds as the terms of their mean, of the weight ``sign`` together."""
    share, found = sign / max(1, len(arm)), {}
    for seed, ranking in by_seed(arm).items():
        whole = Ranking(*ranking)
        columns = arrays(whole.positive, whole.scores)
        found[seed] = Term(share, *columns, ids=whole.ids, clusters=whole.clusters, arm=sign)
    return found


def auroc_contrast(terms: Sequence[Term], *, confidence: float = 0.95) -> ItemDifference:
    """Return the weighted sum of AUROCs with its interval over the distinct items of all terms.

    The standard error is DeLong's, with an item's parts in every term added first. Weights that sum
    to zero make a difference, ``p_value`` its two-sided t-test; the degrees of freedom are
    Satterthwaite's for the two classes, the least of all arms. Weights that sum to one make a mean,
    its interval that of its log-odds.
    """
    columns = [arrays(term.positive, term.scores) for term in terms]
    numbers, n = units(terms, [term.sample for term in terms], clusters=False)
    undefined = ItemDifference("delong", n, n_units=n)
    for labels, values in columns:
        reason = one_class(labels, values)
        if reason:
            return replace(undefined, reason=reason)
    value = float(sum(t.weight * _area(*pair) for t, pair in zip(terms, columns, strict=True)))
    views = _views(terms, columns, numbers, n)
    reason = _too_few(columns, views)
    if reason:
        return replace(undefined, difference=value, reason=reason)
    if _cancel(terms, columns, numbers, n):
        reason = "both rank every pair of items alike"
        return undefined.none(reason)
    parts = np.zeros(n)
    for term, pair, places in zip(terms, columns, numbers, strict=True):
        np.add.at(parts, places, term.weight * _influence(*pair))
    place, n_units = _clusters(terms, numbers, n)
    undefined = replace(undefined, difference=value, n_units=n_units)
    if effective_number(np.bincount(place)) < LEAST_WORTH:
        return replace(undefined, reason=ONE_CLUSTER)
    spread = _Spread.of(parts, views, place, n_units)
    found = replace(undefined, error=spread.error, defined=True, df=spread.df)
    if abs(sum(term.weight for term in terms)) < 1e-9:
        low, high = interval(value, spread.error, spread.df, 0.0, confidence)
        p = p_value(value, spread.error, spread.df, 0.0)
        return replace(found, ci_low=low, ci_high=high, p_value=p)
    low, high = spread.of_a_mean(value, confidence)
    return replace(found, ci_low=low, ci_high=high)


def few_of_a_class(terms: Sequence[Term]) -> str:
    """Return why these rankings give a value at most, or an empty string."""
    columns = [arrays(term.positive, term.scores) for term in terms]
    numbers, n = units(terms, [term.sample for term in terms], clusters=False)
    reasons = [one_class(*pair) for pair in columns]
    return next(filter(None, reasons), "") or _too_few(columns, _views(terms, columns, numbers, n))


def weighted_areas(
    positive: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the AUROC [rounds] of items that count ``weights`` [n, rounds] times, or NaN."""
    labels, values = arrays(positive, scores)
    order = np.argsort(values, kind="stable")
    ordered, wrong = values[order], labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # equal scores share one
    counts = weights[order]
    above = np.add.reduceat(counts * wrong[:, None], starts, axis=0)
    below = np.add.reduceat(counts * ~wrong[:, None], starts, axis=0)
    beaten = np.cumsum(below, axis=0) - below / 2
    with np.errstate(invalid="ignore"):
        return np.asarray(np.einsum("gr,gr->r", above, beaten) / (above.sum(0) * below.sum(0)))


def arrays(positive: npt.ArrayLike, scores: npt.ArrayLike) -> Columns:
    """Return labels and scores as arrays of one length [n]; raises ``ValueError`` otherwise."""
    labels, values = np.asarray(positive, bool), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != values.shape:
        raise ValueError(f"labels {labels.shape} and scores {values.shape} are not of one length")
    return labels, values


def one_class(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> str:
    """Return why these items cannot be ranked, or an empty string."""
    if not len(labels):
        return "there is no item"
    bad = int(np.count_nonzero(np.isnan(values)))
    if bad:
        return f"{bad} of {len(values)} scores are not numbers"
    if labels.all() or not labels.any():
        kind = "positive" if labels[0] else "negative"
        return f"all {len(labels)} items are {kind}: one class cannot be told from another"
    return ""


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the ranks from 1 on, ties sharing their mean; scipy.stats has it, and costs 0.4 s."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _area(labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    n = int(labels.sum())
    above = _ranks(values)[labels].sum() - n * (n + 1) / 2
    return float(above / (n * (len(labels) - n)))


def _cancel(
    terms: Sequence[Term], columns: Sequence[Columns], numbers: Sequence[Places], n: int
) -> bool:
    """Say whether every ranking occurs with weights that sum to zero: an exact null."""
    sums: dict[Hashable, float] = {}
    for term, (labels, values), places in zip(terms, columns, numbers, strict=True):
        ranks, wrong = np.zeros(n), np.zeros(n, bool)
        ranks[places], wrong[places] = _ranks(values), labels
        key = (ranks.tobytes(), wrong.tobytes())
        sums[key] = sums.get(key, 0.0) + term.weight
    return all(abs(total) < 1e-12 for total in sums.values())


def _influence(
    labels: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return each item's part of an AUROC's error, [n]; their squares add up to DeLong's variance.

    A positive's placement is the share of negatives that it beats, a negative's the share of
    positives that beat it.
    """
    n, among = int(labels.sum()), np.empty(len(labels))
    others = len(labels) - n
    among[labels], among[~labels] = _ranks(values[labels]), _ranks(values[~labels])
    beaten = _ranks(values) - among
    placement = np.where(labels, beaten / others, 1 - beaten / n)
    size = np.where(labels, n, others)
    return np.asarray((placement - _area(labels, values)) / np.sqrt(size * (size - 1.0)))


@dataclass(frozen=True)
class _View:
    """The classes as one arm sees them: ``positive`` bool [items]; how many of its own are of each.

    An item that any of its seeds calls positive is one. What the arm never met has the class that
    others gave it.
    """

    positive: npt.NDArray[np.bool_]
    n_positive: int
    n_negative: int


def _views(
    terms: Sequence[Term], columns: Sequence[Columns], numbers: Sequence[Places], n: int
) -> list[_View]:
    met: dict[Hashable, npt.NDArray[np.bool_]] = {}
    for i, (term, (labels, _), places) in enumerate(zip(terms, columns, numbers, strict=True)):
        seen = met.setdefault(("arm", i) if term.arm is None else term.arm, np.zeros((2, n), bool))
        seen[0, places] = True
        seen[1, places] |= labels
    anywhere = np.any([positive for _, positive in met.values()], axis=0)
    return [
        _View(
            np.where(seen, positive, anywhere), int(positive.sum()), int((seen & ~positive).sum())
        )
        for seen, positive in met.values()
    ]


def _too_few(columns: Sequence[Columns], views: Sequence[_View]) -> str:
    for view in views:
        for n, kind in ((view.n_positive, "positive"), (view.n_negative, "negative")):
            if n < LEAST_OF_A_CLASS:
                items = "item" if n == 1 else "items"
                return f"{n} {kind} {items}: fewer than {LEAST_OF_A_CLASS} give no interval"
    if any(min(labels.sum(), (~labels).sum()) < 2 for labels, _ in columns):
        return "a seed has one item alone of a class"
    return ""


def _clusters(
    terms: Sequence[Term], numbers: Sequence[Places], n: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Return the cluster of each distinct item, int [n], and how many there are."""
    found = np.arange(n)
    if all(term.clusters is None for term in terms):
        return found, n
    clusters, n_clusters = units(terms, [term.sample for term in terms])
    for places, mine in zip(numbers, clusters, strict=True):
        found[places] = mine
    return found, n_clusters


@dataclass(frozen=True)
class _Spread:
    """The variance of a contrast: per class how many items there are, and what they add to it.

    ``worth`` is the number of clusters, or of items, by their sizes (`effective_number`).
    """

    sizes: npt.NDArray[np.float64]
    variances: npt.NDArray[np.float64]
    worth: float

    @classmethod
    def of(
        cls,
        parts: npt.NDArray[np.float64],
        views: Sequence[_View],
        place: Places,
        n_units: int,
    ) -> "_Spread":
        whole = float(parts @ parts)
        together = np.bincount(place, parts, n_units)
        grown = float(together @ together) * n_units / (n_units - 1)
        scale = grown / whole if n_units < len(parts) and whole > 0 else 1.0
        worth, found = effective_number(np.bincount(place)), []
        for view in views:
            classes = (view.positive, ~view.positive)
            sizes = np.array([kind.sum() for kind in classes], float)
            variances = scale * np.array([float((parts[kind] ** 2).sum()) for kind in classes])
            found.append(cls(sizes, variances, worth))
        return min(found, key=lambda spread: spread.df)

    @property
    def error(self) -> float:
        return math.sqrt(self.variances.sum())

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom, at most one less than the units are worth."""
        parts = float((self.variances**2 / (self.sizes - 1)).sum())
        df = self.error**4 / parts if parts > 0 else float(self.sizes.min()) - 1
        return min(df, self.worth - 1)

    def guarded(self, value: float) -> tuple[float, "_Spread"]:
        """Return value and spread with ``GUARD`` items of placement 1/2 more in each class."""
        n, more, away = self.sizes, self.sizes + GUARD, value - 0.5
        squares = self.variances * n * (n - 1) + GUARD * n / more * away**2
        centre = value - float((GUARD * away / more).sum())
        return centre, replace(self, sizes=more, variances=squares / (more * (more - 1)))

    def of_a_mean(self, value: float, confidence: float) -> tuple[float, float]:
        """Return the interval of an AUROC, or of a mean of some, from its log-odds.

        The end that is nearer to 1/2 is guarded: perfectly ranked items have no variance.
        """
        if value < 0.5:
            low, high = self.of_a_mean(1 - value, confidence)
            return 1 - high, 1 - low
        centre, guarded = self.guarded(value)
        low = guarded._end(centre, -1, confidence)
        return low, 1.0 if value == 1 else self._end(value, 1, confidence)

    def _end(self, value: float, sign: int, confidence: float) -> float:
        reach = float(stdtrit(self.df, 0.5 + confidence / 2)) * self.error
        return float(expit(logit(value) + sign * reach / (value * (1 - value))))
