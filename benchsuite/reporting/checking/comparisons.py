"""Comparisons in a summary: finding their numbers, and trying the tests that could explain them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scipy.special import stdtr

from benchsuite.reporting.checking.arms import Arm, arms_of, key_of
from benchsuite.reporting.checking.hypotheses import (
    INDEPENDENT,
    ONE_SAMPLE,
    PAIRED,
    STUDENT,
    WELCH,
    Printed,
    relations,
)
from benchsuite.reporting.checking.printed import Number, listed, printed, whole
from benchsuite.reporting.checking.relation import Checked, Finding, Relation
from benchsuite.statistics.rounding import signed

MOST_SEEDS = 200
NAMES = {
    "t": ("t_stat", "t", "t_value", "t_statistic", "statistic"),
    "p": ("p_value", "p", "pvalue", "p_val"),
    "d": ("cohens_d", "cohen_s_d", "cohen_d", "d"),
    "g": ("hedges_g", "hedge_s_g", "g"),
    "df": ("df", "dof"),
    "difference": ("difference", "mean_difference", "diff"),
    "correlation": ("correlation", "r"),
}
P_HOLM = ("p_holm", "holm_p", "p_adjusted", "p_corrected")
# How the two arms of one table are told apart.
PAIRS = (
    ("a", "b"),
    ("1", "2"),
    ("", "other"),
    ("x", "y"),
    ("first", "second"),
    ("method", "baseline"),
    ("ours", "baseline"),
    ("treatment", "control"),
)
Pair = tuple[Arm | None, Arm | None]


def is_one(table: Mapping[str, Any]) -> bool:
    """Say whether a table holds a test's numbers."""
    keys = {key_of(name) for name, value in table.items() if printed(value) is not None}
    return any(name in keys for field in ("t", "p", "d", "difference") for name in NAMES[field])


def pair_within(table: Mapping[str, Any], arms: Mapping[str, Arm], n: int | None) -> Pair | None:
    """Return two arms that stand in the comparison's own table, or None."""
    rows = side_by_side(table, n)
    if rows:
        return (rows[0], rows[1]) if len(rows) == 2 else None
    for names in PAIRS:
        if all(name in arms and arms[name].mean for name in names):
            return arms[names[0]], arms[names[1]]
    return None


def side_by_side(table: Mapping[str, Any], n: int | None) -> list[Arm]:
    """Return the arms of a flat table, in which each statistic is a list over the arms."""
    columns = {k: v for k in ("mean", "std", "n", "min", "max") if (v := listed(table.get(k)))}
    size = len(columns.get("mean", ()))
    columns = {k: v for k, v in columns.items() if len(v) == size}
    shared = {"n": table["n"]} if "n" in table and "n" not in columns else {}
    rows = [{**shared, **{k: v[i] for k, v in columns.items()}} for i in range(size)]
    return [arms_of(row, n).get("", Arm()) for row in rows]


def check(
    checked: Checked,
    where: str,
    table: Mapping[str, Any],
    pair: Pair,
    n: int | None,
    *,
    ordered: bool = False,
    within: bool = False,
) -> None:
    """Test a comparison's numbers; ``within`` says that the arms stand in its own table.

    ``ordered`` says that t has the sign of the first arm minus the second. An unnamed test is tried
    as Student's, Welch's and a one-sample test. Where only pairs explain the numbers they are told
    under ``unless``.
    """
    seen, name = _read(table), _test_of(table)
    checked.add(where, _limits(seen, table))
    if name is None:
        return
    counts = _counts(table, pair, n)
    # What looks between seeds decided is told as of that look; the arms have more seeds by now.
    apart = [] if within else list(_of_both(counts, pair))
    if table.get("looks") and not all(r.kept for r in apart):
        apart, pair = [], (None, None)
    checked.add(where, apart)
    if seen.p and not 0 <= seen.p.value <= 1:
        seen = replace(seen, p=None)
    seen = _with_moments(seen, pair, name, ordered)
    decided = _decided(table)
    if decided is not None:
        # The interval and Holm's p are of another test than t and p, which stands beside them.
        _explain(
            checked, f"{where}, {_key(decided[0])}", replace(seen, **decided[1]), decided[0], counts
        )
        seen = replace(seen, interval=None, df=seen.df)
    _explain(checked, where, seen, name, counts)


_Tried = tuple[list[Relation], str, tuple[int, int]]
"""Relations between the printed numbers under a test and the seeds of its arms."""


def _explain(
    checked: Checked, where: str, seen: Printed, name: str, counts: tuple[int | None, int | None]
) -> None:
    """Try the tests that may have made the numbers, and keep what is told of the best."""
    sizes, tried = _sizes(counts), list[_Tried]()
    for test in _candidates(seen, name):
        for size in sizes:
            if (min(size) < 2 and test != ONE_SAMPLE) or max(size) < 2:
                continue
            found = relations(seen, test, size)
            tried.append((found, test, size))
            if all(r.kept for r in found):
                checked.count(found)
                if test == PAIRED and name != PAIRED:
                    _note_pairs(checked, where, seen, size, tried)
                return
    honest = [t for t in tried if t[1] != PAIRED or name == PAIRED]
    if not honest:
        return
    if len(sizes) > 1:
        checked.count(honest[0][0])
        checked.findings.append(_no_count_fits(where, seen))
        return
    _tell_best(checked, where, seen, min(honest, key=lambda t: sum(not r.kept for r in t[0])))


def _sizes(counts: tuple[int | None, int | None]) -> list[tuple[int, int]]:
    """Return the seeds of both arms, or all that they may be where neither is told."""
    one, two = counts
    if one is not None and two is not None:
        return [(one, two)]
    if known := one or two:
        return [(known, known)]
    return [(k, k) for k in range(2, MOST_SEEDS + 1)]


def _tell_best(checked: Checked, where: str, seen: Printed, best: _Tried) -> None:
    """Keep what does not belong together under the test that explains most."""
    found, test, size = best
    derived = fitting(seen, size) if test in INDEPENDENT else {}
    told = f". The means and stds give {_told(derived)}" if derived else ""
    checked.count(found)
    for relation in found:
        if not relation.kept:
            fits = {**relation.would_fit, **({"from_means": derived} if derived else {})}
            full = replace(relation, would_fit=fits)
            checked.findings.append(full.finding(where, told))


def _candidates(seen: Printed, name: str) -> tuple[str, ...]:
    if name:
        return (name,) if name != "independent" else INDEPENDENT
    still = any(m is not None and m[1].low <= 0 for m in seen.moments)
    return (*INDEPENDENT, *((ONE_SAMPLE,) if still else ()), PAIRED)


def _note_pairs(
    checked: Checked,
    where: str,
    seen: Printed,
    size: tuple[int, int],
    tried: Sequence[_Tried],
) -> None:
    first = next(
        (
            r
            for found, test, s in tried
            if test == STUDENT and s == size
            for r in found
            if not r.kept
        ),
        None,
    )
    said = (first.message if first else "no unpaired t-test explains the numbers") + ", unless the "
    said += f"test was a paired one of {size[0]} pairs, which the summary does not say"
    correlation = _correlation(seen, size[0])
    if correlation is not None:
        said += f" (their correlation is then {signed(correlation)})"
    checked.unless.append(Finding(where, said, first.given if first else {}, {"test": PAIRED}))


def _correlation(seen: Printed, n: int) -> float | None:
    """Return the correlation of the pairs that t asks for."""
    first, second = seen.moments
    if not (seen.t and first and second and seen.t.value and first[1].value and second[1].value):
        return None
    variance = ((first[0].value - second[0].value) / seen.t.value) ** 2 * n
    a, b = first[1].value, second[1].value
    return max(-1.0, min(1.0, (a * a + b * b - variance) / (2 * a * b)))


def fitting(seen: Printed, size: tuple[int, int]) -> dict[str, float]:
    """Return t, p (Student, Welch), df and d that follow from two means and stds."""
    first, second = seen.moments
    if not first or not second or min(size) < 2:
        return {}
    (a, s), (b, r) = ((x.value, y.value) for x, y in (first, second))
    n, m = size
    shares = s * s / n, r * r / m
    if sum(shares) == 0:
        return {}
    pooled = (((n - 1) * s * s + (m - 1) * r * r) / (n + m - 2)) ** 0.5
    student = (a - b) / (pooled * (1 / n + 1 / m) ** 0.5)
    welch = (a - b) / sum(shares) ** 0.5
    df = sum(shares) ** 2 / (shares[0] ** 2 / (n - 1) + shares[1] ** 2 / (m - 1))
    return {
        "t": student,
        "p_student": float(2 * stdtr(n + m - 2, -abs(student))),
        "df_welch": df,
        "p_welch": float(2 * stdtr(df, -abs(welch))),
        "d": (a - b) / pooled,
    }


def _told(fit: Mapping[str, float]) -> str:
    return (
        f"t = {signed(fit['t'], 3)}, Student p = {fit['p_student']:.4f}, "
        f"Welch p = {fit['p_welch']:.4f}, d = {signed(fit['d'], 3)}"
    )


def _no_count_fits(where: str, seen: Printed) -> Finding:
    """Return the finding for a comparison that no number of seeds explains."""
    parts = []
    t, p, d = seen.t, seen.p, seen.d
    if t and d and d.value:
        ends = [2 * (x / y) ** 2 for x in (t.low, t.high) for y in (d.low, d.high) if y]
        parts.append(f"t and d belong to n = {min(ends):.2f} to {max(ends):.2f} seeds an arm")
    if t and p:
        alone = replace(seen, d=None, g=None, interval=None, df=None)
        counts = [
            k
            for k in range(2, MOST_SEEDS + 1)
            if any(all(r.kept for r in relations(alone, test, (k, k))) for test in INDEPENDENT)
        ]
        span = f"n = {counts[0]} to {counts[-1]}" if counts else "no n"
        parts.append(f"t and p, with the means and stds, to {span}")
    given = {k: v.value for k, v in (("t", t), ("p", p), ("d", d)) if v}
    fits = {f"n = {k}": fit for k in (3, 4, 5) if (fit := fitting(seen, (k, k)))}
    told = "; ".join(f"for {name} {_told(fit)}" for name, fit in fits.items())
    message = "no number of seeds explains these numbers together"
    message += f": {', '.join(parts)}" if parts else ""
    message += f". The means and stds give {told}" if told else ""
    return Finding(where, message, given, fits)


def _read(table: Mapping[str, Any]) -> Printed:
    keys = {key_of(name): value for name, value in table.items()}
    found: dict[str, Any] = {
        field: next((x for k in names if (x := printed(keys.get(k)))), None)
        for field, names in NAMES.items()
    }
    if p := found["p"]:
        # No p is printed without decimals: 0.0 is one of less than .05.
        found["p"] = Number(p.value, max(p.low, p.value - 0.05), min(p.high, p.value + 0.05))
    ends = (
        listed(keys.get("ci95"))
        or listed(keys.get("ci"))
        or [keys.get("ci95_low", keys.get("ci_low")), keys.get("ci95_high", keys.get("ci_high"))]
    )
    low, high = (printed(e) for e in ends) if len(ends) == 2 else (None, None)
    one_sided = str(keys.get("alternative", "")) in ("less", "greater") or keys.get("sides") == 1
    return Printed(**found, interval=(low, high) if low and high else None, one_sided=one_sided)


def _test_of(table: Mapping[str, Any]) -> str | None:
    """Return the test that a table names, "" if it names none, None if it is no t-test."""
    if "test" not in table:
        return ""
    if table["test"] is None:
        return None
    said = str(table["test"]).lower()
    for words, test in (
        (("unpaired", "independent", "two-sample", "ttest_ind"), "independent"),
        (("welch", "unequal"), WELCH),
        (("pair", "ttest_rel", "dependent"), PAIRED),
        (("one_sample", "one-sample", "1samp", "one sample"), ONE_SAMPLE),
        (("student", "pooled"), STUDENT),
    ):
        if any(word in said for word in words):
            return test
    return "" if key_of(said) in ("t", "t_test", "ttest") else None


def _decided(table: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the test that decided and its own t, df and p, where t and p are another's."""
    name = table.get("decided_by")
    inner = table.get(str(name)) if name and name != table.get("test") else None
    if name not in (WELCH, STUDENT) or not isinstance(inner, Mapping):
        return None
    found = _read(inner)
    return str(name), {"t": found.t, "p": found.p, "df": found.df, "d": None, "g": None}


def _key(name: str) -> str:
    return {WELCH: "Welch's", STUDENT: "Student's"}[name]


def _counts(table: Mapping[str, Any], pair: Pair, n: int | None) -> tuple[int | None, int | None]:
    """Return the seeds of both arms: the comparison's own numbers, or those of the arms."""
    keys = {key_of(name): value for name, value in table.items()}
    both = listed(keys.get("n"))
    first = whole(both[0]) if both else _first(keys, ("n", "n_a", "n1", "n_1", "n_seeds"))
    second = whole(both[-1]) if both else _first(keys, ("n_other", "n_b", "n2", "n_2"))
    own = first, second if second is not None else first
    found = [
        mine if mine is not None else arm.n if arm and arm.n is not None else n
        for mine, arm in zip(own, pair, strict=True)
    ]
    return found[0], found[1]


def _of_both(counts: tuple[int | None, int | None], pair: Pair) -> Iterator[Relation]:
    for mine, arm in zip(counts, pair, strict=True):
        if mine is not None and arm and arm.n is not None:
            said = f"n = {mine} in the comparison, but {arm.n} in the arm"
            yield Relation("n of both tables", mine == arm.n, said, {"n": mine}, {"n": arm.n})


def _first(keys: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((found for k in names if (found := whole(keys.get(k))) is not None), None)


def _with_moments(seen: Printed, pair: Pair, name: str, ordered: bool) -> Printed:
    moments = [arm.moments if arm else None for arm in pair]
    for i, arm in enumerate(pair):
        if name == ONE_SAMPLE and moments[i] is None and arm and arm.mean and moments[1 - i]:
            moments[i] = arm.mean, Number(0.0, 0.0, 0.0)
    first, second = moments
    if not ordered and first and second:
        gap = first[0].value - second[0].value
        signs = [x.value for x in (seen.t, seen.d, seen.difference) if x and x.value]
        if signs and all(x * gap < 0 for x in signs):
            first, second = second, first
    return replace(seen, moments=(first, second))


def _limits(seen: Printed, table: Mapping[str, Any]) -> Iterator[Relation]:
    """Hold p, Holm's p and the interval against their ranges, and the two p against each other."""
    keys = {key_of(name): value for name, value in table.items()}
    corrected = next((x for k in P_HOLM if (x := printed(keys.get(k)))), None)
    for name, p in (("p", seen.p), ("p_holm", corrected)):
        if p:
            kept = p.high >= 0 and p.value >= 0 and p.value <= 1
            yield Relation(
                name, kept, f"{name} = {p.value:g} lies outside 0 to 1", {name: p.value}, limit=True
            )
    if seen.interval:
        low, high = seen.interval
        said = f"the interval {low.value:g} to {high.value:g} ends before it begins"
        yield Relation("interval", low.value <= high.value, said, limit=True)
    if seen.df:
        yield Relation("df", seen.df.value > 0, f"df {seen.df.value:g} is not positive", limit=True)
    decided = _decided(table)
    p = (decided[1]["p"] if decided else None) or seen.p
    guarded = printed(keys.get("p_guarded"))
    if guarded and p:
        said = (
            f"p_guarded = {guarded.value:g}, the largest over all variances, is below {p.value:g}"
        )
        yield Relation("p_guarded from p", guarded.high >= p.low, said)
        p = guarded  # what was corrected
    if corrected and p:
        family = whole(keys.get("family_size"))
        kept = corrected.high >= p.low and not (
            family and not table.get("looks") and corrected.low > min(1.0, family * p.high)
        )
        most = f" and at most {min(1.0, family * p.value):.4g}" if family else ""
        said = (
            f"p_holm = {corrected.value:g} does not belong to p = {p.value:g}: a corrected p is at "
            f"least that{most}"
        )
        yield Relation("p_holm from p", kept, said, {"p_holm": corrected.value, "p": p.value})
