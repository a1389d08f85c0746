"""Shares of right answers: what a number of items allows, as the latent-reasoning files print it.

``accuracy`` in percent with ``accuracy_stderr``, ``accuracy_ci95`` and ``n_items_asked``; a paper's
row with a difference from a published value.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from scipy.special import betaincinv, ndtri

from benchsuite.reporting.checking.arms import key_of
from benchsuite.reporting.checking.printed import Number, listed, plus_minus, printed, whole
from benchsuite.reporting.checking.relation import Relation
from benchsuite.statistics.descriptive import proportion_interval

# Endings of keys that are not of one seed's own share.
APART = ("_mean", "_std", "_stderr", "_ci95")
ITEMS = ("n_items_asked", "n_items", "n_questions")


def relations(table: Mapping[str, Any]) -> Iterator[Relation]:
    """Yield the relations of one seed's accuracy in percent, and of a row's difference."""
    keys = {key_of(name): value for name, value in table.items()}
    n = next((found for k in ITEMS if (found := whole(keys.get(k)))), None)
    beside = [k for k in keys if {f"{k}_stderr", f"{k}_ci95"} & set(keys) or k.startswith("acc")]
    name = next((k for k in beside if printed(keys[k]) and not k.endswith(APART)), None)
    if name and n and n > 0 and (seen := printed(keys[name])):
        yield from _of_items(name, seen, n, keys)
    published, difference = (printed(keys.get(k)) for k in ("published_s", "difference"))
    first = next((pair for v in table.values() if (pair := plus_minus(v))), None)
    if first and published and difference:
        mean = first[0]
        derived = Number(
            mean.value - published.value, mean.low - published.high, mean.high - published.low
        )
        said = f"the difference {difference.value:g} is not mean - published, {derived.told}"
        yield Relation("difference from published", difference.meets(derived), said)


def _of_items(name: str, seen: Number, n: int, keys: Mapping[str, Any]) -> Iterator[Relation]:
    kept = 0 <= seen.value <= 100
    yield Relation(name, kept, f"{name} {seen.value:g} % is no percentage", limit=True)
    if not kept:
        return
    right = round(seen.value * n / 100)
    fit = Number(100 * right / n, 100 * right / n, 100 * right / n)
    said = f"{name} {seen.value:g} % of {n} items is no whole number of them: {fit.value:.6g} % is"
    yield Relation(f"{name} from items", seen.meets(fit), said, {name: seen.value})
    share = right / n
    error = printed(keys.get(f"{name}_stderr"))
    if error:
        root = 100 * math.sqrt(share * (1 - share))
        fits = [root / math.sqrt(n), root / math.sqrt(max(1, n - 1))]
        said = f"{name}_stderr {error.value:g} is not that of {n} items, {fits[0]:.4g}"
        kept = any(error.meets(Number(f, f, f)) for f in fits)
        yield Relation("standard error of items", kept, said)
    ends = listed(keys.get(f"{name}_ci95")) or [None]
    low, high = printed(ends[0]), printed(ends[-1])
    if low and high:
        ways = _intervals(right, n)
        kept = any(low.meets(_exactly(a)) and high.meets(_exactly(b)) for a, b in ways)
        said = (
            f"{name}_ci95 {low.value:g} to {high.value:g} is not that of {right} of {n} items, "
            f"{ways[0][0]:.4g} to {ways[0][1]:.4g}"
        )
        yield Relation("interval of items", kept, said)


def _exactly(value: float) -> Number:
    return Number(value, value, value)


def _intervals(right: int, n: int) -> list[tuple[float, float]]:
    """Return the 95 % intervals in percent by Wilson, Wald, and Clopper and Pearson."""
    share = right / n
    wald = float(ndtri(0.975)) * math.sqrt(share * (1 - share) / n)
    exact = (
        float(betaincinv(right, n - right + 1, 0.025)) if right else 0.0,
        float(betaincinv(right + 1, n - right, 0.975)) if right < n else 1.0,
    )
    wide = [proportion_interval(right, n), (share - wald, share + wald), exact]
    return [(100 * low, 100 * high) for low, high in wide]
