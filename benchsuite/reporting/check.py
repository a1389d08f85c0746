"""Which numbers of a printed summary cannot belong together, and which values would fit.

Means and standard deviations are printed rounded, so every recomputed value is a range. The
relations that hold without them (t, p and d determine each other for a given n) are tighter, and
are what convicts most summaries.
"""

import decimal
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.special import stdtr

from benchsuite.statistics.rounding import signed

MOST_SEEDS = 200
STATISTICS = ("mean", "std")
NAMES = {
    "t": ("t_stat", "t", "statistic"),
    "p": ("p_value", "p"),
    "d": ("cohens_d", "d"),
    "n": ("n", "n_seeds"),
}


@dataclass(frozen=True)
class Finding:
    """Numbers that cannot belong together: where, which, and what would fit."""

    where: str
    message: str
    given: Mapping[str, Any] = field(default_factory=dict)
    would_fit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Printed:
    """A number as printed: every true value from ``low`` to ``high`` rounds to it."""

    value: float
    low: float
    high: float


def check_summary(data: Mapping[str, Any], *, n: int | None = None) -> list[Finding]:
    """Return what is inconsistent in a summary in the study document's structure, or a flat one.

    ``n`` is the number of seeds an arm if the summary does not say it. A flat summary is
    ``{"mean": [a, b], "std": [a, b], "n": 5, "t": .., "p": .., "d": ..}``.
    """
    if "mean" in data and isinstance(data["mean"], Sequence):
        both = [
            {"mean": m, "std": s, "n": data.get("n", n)}
            for m, s in zip(data["mean"], data.get("std", ()), strict=False)
        ]
        return list(_comparison("the summary", data, both, n, _decimals([data])))
    findings: list[Finding] = []
    decimals = _decimals(list(_tables(data)))
    for model, methods in data.items():
        if not isinstance(methods, Mapping) or model.startswith("_"):
            continue
        arms = dict(_arms(methods))
        for method, arm in arms.items():
            findings += _arm(f"{model}, {method}", arm, n, decimals)
        for name, found in methods.items():
            if isinstance(found, Mapping) and name.startswith("ttest_") and "_vs_" in name:
                pair = [arms.get(m) for m in name.removeprefix("ttest_").split("_vs_", 1)]
                findings += _comparison(f"{model}, {name}", found, pair, n, decimals)
    return findings


def _arms(methods: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for method, found in methods.items():
        if not isinstance(found, Mapping):
            continue
        for value in (found, *found.values()):
            if isinstance(value, Mapping) and {"mean", "std"} <= set(value):
                yield method, value
                break


def _arm(
    where: str, arm: Mapping[str, Any], n: int | None, decimals: Mapping[str, int]
) -> Iterator[Finding]:
    """Check one arm: the cv, and whether mean and std are possible within min and max."""
    mean, std, low, high, cv = (
        printed(arm.get(k), decimals.get(k)) for k in ("mean", "std", "min", "max", "cv_percent")
    )
    n = _count(arm) or n
    if mean and std and cv and mean.value:
        ends = [
            abs(s / m) * 100 for s in (max(0.0, std.low), std.high) for m in (mean.low, mean.high)
        ]
        if not _overlap(cv, min(ends), max(ends)):
            fits = abs(std.value / mean.value) * 100
            message = f"cv {cv.value:g} % is not std / mean, which is {_span(ends)} %"
            yield Finding(where, message, {"cv_percent": cv.value}, {"cv_percent": fits})
    if mean and low and high and not (low.low <= mean.high and mean.low <= high.high):
        message = f"the mean {mean.value:g} lies outside min {low.value:g} to max {high.value:g}"
        yield Finding(where, message, {"mean": mean.value, "min": low.value, "max": high.value})
    elif mean and std and low and high and n and n > 1:
        yield from _spread(where, mean, std, low, high, n)


def _spread(
    where: str, mean: Printed, std: Printed, low: Printed, high: Printed, n: int
) -> Iterator[Finding]:
    """Check a std against its bounds for values that reach from min to max.

    At most sqrt((max - mean)(mean - min) n / (n - 1)) (Bhatia and Davis 2000), at least when all
    but the two ends lie at their middle.
    """
    least = max(0.0, high.low - low.high) / math.sqrt(2 * (n - 1))
    wide = 0.0
    middle = (high.high + low.low) / 2
    if mean.low <= middle <= mean.high:
        wide = max(wide, ((high.high - low.low) / 2) ** 2)
    for end in (mean.low, mean.high):
        wide = max(wide, (high.high - end) * (end - low.low))
    most = math.sqrt(max(0.0, wide) * n / (n - 1))
    if most < least or not _overlap(std, least, most):
        message = (
            f"std {std.value:g} is impossible for n = {n} values from {low.value:g} to "
            f"{high.value:g} with mean {mean.value:g}: it lies between {least:.3g} and {most:.3g}"
        )
        yield Finding(where, message, {"std": std.value}, {"std": [least, most]})


def _comparison(
    where: str,
    found: Mapping[str, Any],
    pair: Sequence[Mapping[str, Any] | None],
    n: int | None,
    decimals: Mapping[str, int],
) -> Iterator[Finding]:
    t, p, d = (_named(found, name, decimals) for name in ("t", "p", "d"))
    counts = [_count(arm or {}) or _count(found) or n for arm in pair]
    test = str(found.get("test") or "")
    if len(pair) != 2 or found.get("test", "") is None:
        return
    if test in ("one_sample", "paired", "exact"):
        yield from _against_constant(where, test, t, p, d, counts)
        return
    known = counts[0] if counts[0] == counts[1] else None
    if counts[0] and counts[1] and known is None:
        return
    arms = [_moments(arm, decimals) for arm in pair]
    candidates = [known] if known else range(2, MOST_SEEDS + 1)
    if any(not list(_misfits(k, t, p, d, arms)) for k in candidates):
        return
    if known:
        moments = [arm for arm in arms if arm]
        derived = fitting(moments, known) if len(moments) == 2 else {}
        told = f". The means and stds give {_told(derived)}" if derived else ""
        for message, given, fits in _misfits(known, t, p, d, arms):
            yield Finding(where, message + told, given, {**fits, "from_means": derived})
        return
    yield _no_count_fits(where, t, p, d, arms)


Misfit = tuple[str, dict[str, Any], dict[str, Any]]
Moments = tuple[Printed, Printed] | None


def _misfits(
    n: int, t: Printed | None, p: Printed | None, d: Printed | None, arms: Sequence[Moments]
) -> Iterator[Misfit]:
    """Yield what does not fit two arms of ``n`` seeds each."""
    if t and d:
        ratio = math.sqrt(2 / n)
        if not _overlap(d, t.low * ratio, t.high * ratio):
            fit = t.value * ratio
            message = (
                f"d = {signed(d.value, 3)} does not belong to t = {signed(t.value, 3)} with "
                f"n = {n} an arm: d = t sqrt(2 / n) = {signed(fit, 3)}"
            )
            yield message, {"t": t.value, "d": d.value}, {"d": fit, "t": d.value / ratio}
    if t and p:
        # Welch's degrees of freedom lie between n - 1 and Student's 2 n - 2.
        sizes = [abs(t.low), abs(t.high)]
        smallest = 0.0 if t.low <= 0 <= t.high else min(sizes)
        frees = _freedom(n, arms)
        least = float(2 * stdtr(frees[1], -max(sizes)))
        most = float(2 * stdtr(frees[0], -smallest))
        if not _overlap(p, least, most):
            student = float(2 * stdtr(2 * n - 2, -abs(t.value)))
            message = (
                f"p = {p.value:g} does not belong to t = {signed(t.value, 3)} with n = {n} an arm: "
                f"Student gives {student:.4f}, Welch at most {most:.4f}"
            )
            yield message, {"t": t.value, "p": p.value}, {"p": [student, most]}
    moments = [arm for arm in arms if arm]
    if t and len(moments) == 2:
        low, high = _t_range(moments[0], moments[1], n)
        if not _overlap(t, low, high):
            fit = _t(moments[0][0].value, moments[1][0].value, moments, n)
            message = (
                f"t = {signed(t.value, 3)} does not follow from the means and stds with n = {n} an "
                f"arm, which give {signed(fit, 3)} (rounding allows {low:.3f} to {high:.3f})"
            )
            yield message, {"t": t.value}, fitting(moments, n)


def _no_count_fits(
    where: str, t: Printed | None, p: Printed | None, d: Printed | None, arms: Sequence[Moments]
) -> Finding:
    """Return the finding for a summary that no number of seeds explains."""
    parts = []
    if t and d and d.value:
        ends = [2 * (x / y) ** 2 for x in (t.low, t.high) for y in (d.low, d.high) if y]
        parts.append(f"t and d belong to n = {_span(ends)} seeds an arm")
    if t and p:
        counts = [k for k in range(2, MOST_SEEDS + 1) if not list(_misfits(k, t, p, None, arms))]
        span = f"n = {counts[0]} to {counts[-1]}" if counts else "no n"
        parts.append(f"t and p, with the means and stds, to {span}")
    given = {k: v.value for k, v in (("t", t), ("p", p), ("d", d)) if v}
    moments = [arm for arm in arms if arm]
    fits = {f"n = {k}": fitting(moments, k) for k in (3, 4, 5)} if len(moments) == 2 else {}
    told = "; ".join(f"for {name} {_told(fit)}" for name, fit in fits.items())
    message = f"no number of seeds explains these numbers together: {', '.join(parts)}"
    message += f". The means and stds give {told}" if told else ""
    return Finding(where, message, given, fits)


def _told(fit: Mapping[str, float]) -> str:
    return (
        f"t = {signed(fit['t'], 3)}, Student p = {fit['p_student']:.4f}, "
        f"Welch p = {fit['p_welch']:.4f}, d = {signed(fit['d'], 3)}"
    )


def fitting(moments: Sequence[tuple[Printed, Printed]], n: int) -> dict[str, float]:
    """Return t, p (Student, Welch), df and d that follow from two means and stds."""
    (mean_a, std_a), (mean_b, std_b) = moments[:2]
    t = _t(mean_a.value, mean_b.value, moments, n)
    df = _welch_df(std_a.value, std_b.value, n)
    return {
        "t": t,
        "p_student": float(2 * stdtr(2 * n - 2, -abs(t))),
        "df_welch": df,
        "p_welch": float(2 * stdtr(df, -abs(t))),
        "d": t * math.sqrt(2 / n),
    }


def _against_constant(
    where: str,
    test: str,
    t: Printed | None,
    p: Printed | None,
    d: Printed | None,
    counts: Sequence[int | None],
) -> Iterator[Finding]:
    """Check a one-sample or paired test: p from t with n - 1 degrees, d = t / sqrt(n)."""
    n = max((c for c in counts if c), default=0)
    if n < 2 or t is None:
        return
    if p is not None:
        ends = [float(2 * stdtr(n - 1, -abs(x))) for x in (t.low, t.high)]
        if not _overlap(p, min(ends), max(ends)):
            message = f"p = {p.value:g} does not belong to t = {signed(t.value, 3)}, df {n - 1}"
            yield Finding(where, message, {"t": t.value, "p": p.value}, {"p": sum(ends) / 2})
    if d is not None and test == "one_sample":
        ends = [x / math.sqrt(n) for x in (t.low, t.high)]
        if not _overlap(d, min(ends), max(ends)):
            message = f"d = {signed(d.value, 3)} is not t / sqrt(n) = {signed(sum(ends) / 2, 3)}"
            yield Finding(where, message, {"t": t.value, "d": d.value}, {"d": sum(ends) / 2})


def printed(value: Any, decimals: int | None) -> Printed | None:
    """Return a number with the range that rounds to it at its column's decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    slack = max(0.5000001 * 10 ** -(decimals or 0), 1e-9 * abs(value))
    return Printed(float(value), value - slack, value + slack)


def _decimals(tables: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the most decimals that each key is printed with: 5.7 beside 5.65 means 5.70."""
    most: dict[str, int] = {}
    for table in tables:
        for key, value in table.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, float) and math.isfinite(one):
                    most[key] = max(most.get(key, 0), _places(one))
    return most


def _places(value: float) -> int:
    """Return the decimals of a float's shortest text."""
    return max(0, -int(decimal.Decimal(repr(value)).normalize().as_tuple().exponent))


def _tables(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        yield data
        for key, value in data.items():
            if not str(key).startswith("_"):
                yield from _tables(value)


def _named(found: Mapping[str, Any], name: str, decimals: Mapping[str, int]) -> Printed | None:
    for key in NAMES[name]:
        if key in found:
            return printed(found[key], decimals.get(key))
    return None


def _count(table: Mapping[str, Any]) -> int | None:
    for key in NAMES["n"]:
        if isinstance(table.get(key), int):
            return int(table[key])
    seeds = table.get("seeds")
    return len(seeds) if isinstance(seeds, list) else None


def _moments(arm: Mapping[str, Any] | None, decimals: Mapping[str, int]) -> Moments:
    mean, std = (printed((arm or {}).get(k), decimals.get(k)) for k in STATISTICS)
    return (mean, std) if mean and std else None


def _t(mean_a: float, mean_b: float, moments: Sequence[tuple[Printed, Printed]], n: int) -> float:
    error = math.sqrt((moments[0][1].value ** 2 + moments[1][1].value ** 2) / n)
    return (mean_a - mean_b) / error if error else math.inf


def _t_range(a: tuple[Printed, Printed], b: tuple[Printed, Printed], n: int) -> tuple[float, float]:
    ends = []
    for first, second in ((a[0].low, b[0].high), (a[0].high, b[0].low)):
        for one, two in itertools.product((a[1].low, a[1].high), (b[1].low, b[1].high)):
            error = math.sqrt((max(one, 0) ** 2 + max(two, 0) ** 2) / n)
            ends.append(
                (first - second) / error if error else math.copysign(math.inf, first - second)
            )
    return min(ends), max(ends)


def _welch_df(std_a: float, std_b: float, n: int) -> float:
    a, b = std_a**2, std_b**2
    return (n - 1) * (a + b) ** 2 / (a**2 + b**2) if a + b else 2.0 * n - 2


def _freedom(n: int, arms: Sequence[Moments]) -> tuple[float, float]:
    """Return the least and most degrees of freedom that Welch or Student can have here."""
    moments = [arm for arm in arms if arm]
    if len(moments) != 2:
        return n - 1.0, 2.0 * n - 2
    stds = [(arm[1].low, arm[1].high) for arm in moments]
    frees = [_welch_df(max(a, 0), max(b, 0), n) for a, b in itertools.product(*stds)]
    return min(frees), 2.0 * n - 2


def _overlap(seen: Printed, low: float, high: float) -> bool:
    low, high = min(low, high), max(low, high)
    room = 1e-9 * max(abs(low), abs(high), 1e-9)
    return seen.low <= high + room and seen.high >= low - room


def _span(ends: Sequence[float]) -> str:
    low, high = f"{min(ends):.2f}", f"{max(ends):.2f}"
    return low if low == high else f"{low} to {high}"
