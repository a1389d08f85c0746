"""Which numbers of a printed summary cannot belong together, and which values would fit.

Means and standard deviations are printed rounded, so every recomputed value is a range. The
relations that hold without them (t, p and d determine each other for a given n) are tighter, and
are what convicts most summaries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite.reporting.checking import arms, comparisons, shares
from benchsuite.reporting.checking.arms import Arm, arms_of, count_of, key_of
from benchsuite.reporting.checking.printed import listed, plus_minus, printed
from benchsuite.reporting.checking.relation import Checked

# What tells the rows of a table apart, and which of two rows a comparison is of.
METHOD, OTHER = ("method", "a", "ours"), ("other", "b", "baseline", "than", "vs")


def check_summary(data: Any, *, n: int | None = None) -> Checked:
    """Return what is inconsistent in a summary, and how many relations were tested.

    Any nesting of mappings and lists is read: the source documents' structures, rows of a table, a
    flat ``{"mean": [a, b], "std": [a, b], "n": 5, "t": .., "p": .., "d": ..}``. Numbers may be
    Python's or numpy's, or texts. ``n`` is the number of seeds an arm if the summary does not say
    it; where nobody does, every n up to 200 is tried, the same in both arms. Keys that start with
    an underscore are not read.
    """
    checked = Checked()
    _walk(checked, "", data, n)
    return checked


def _walk(checked: Checked, where: str, data: Any, n: int | None) -> None:
    if isinstance(data, Mapping):
        _table(checked, where, data, n)
    else:
        rows = listed(data) if not isinstance(data, str) else None
        for index, row in enumerate(rows or ()):
            if isinstance(row, Mapping):
                place = f"{where or 'row'} {index + 1}{_labels(row)}"
                _table(checked, place, row, n, [r for r in rows or () if isinstance(r, Mapping)])
            elif isinstance(row, list | tuple):
                _walk(checked, f"{where or 'item'} {index + 1}", row, n)


def _table(
    checked: Checked,
    where: str,
    table: Mapping[str, Any],
    n: int | None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Check one mapping: its own arms and comparison, then what stands in it."""
    place, n = where or "the summary", count_of(table) or n
    mine = arms_of(table, n)
    pair = comparisons.pair_within(table, mine, n)
    for stem, arm in mine.items():
        alone = arm.without_interval() if pair and stem in ("", "other") else arm
        checked.add(f"{place}, {stem}" if stem else place, arms.relations(alone))
    for index, arm in enumerate(comparisons.side_by_side(table, n)):
        checked.add(f"{place}, arm {index + 1}", arms.relations(arm))
    checked.add(place, shares.relations(table))
    if comparisons.is_one(table) and "_vs_" not in where.rpartition(", ")[2]:
        both = pair or _of_rows(table, rows, n) or _of_children(table, n) or (None, None)
        comparisons.check(checked, place, table, both, n, within=pair is not None)
    for name, value in table.items():
        inner = f"{where}, {name}" if where else str(name)
        if str(name).startswith("_"):
            continue
        if isinstance(value, Mapping) and comparisons.is_one(value) and "_vs_" in str(name):
            both = _named(table, str(name), n)
            comparisons.check(checked, inner, value, both, n, ordered=True)
        elif isinstance(value, Mapping) and comparisons.is_one(value) and not arms_of(value):
            both = _of_children(table, n) or (None, None)
            comparisons.check(checked, inner, value, both, n)
        elif isinstance(value, Mapping | list | tuple):
            _walk(checked, inner, value, n)


def _named(table: Mapping[str, Any], name: str, n: int | None) -> tuple[Arm | None, Arm | None]:
    """Return the arms of ``ttest_A_vs_B`` or ``ttest_A_vs_B__metric`` beside it."""
    first, _, second = name.removeprefix("ttest_").partition("_vs_")
    metric = ""
    if second not in table and "__" in second:
        second, _, metric = second.rpartition("__")
    inner = [_arm_of(table.get(method), metric, n) for method in (first, second)]
    return inner[0], inner[1]


def _arm_of(method: Any, metric: str, n: int | None) -> Arm | None:
    """Return a method's arm: that of the metric, or its first where none is named."""
    if not isinstance(method, Mapping):
        return None
    known: dict[str, Arm] = {}
    for name, found in (("", method), *method.items()):
        if isinstance(found, Mapping):
            for stem, arm in arms_of(found, count_of(method) or n).items():
                known.setdefault(stem if name == "" else key_of(name), arm)
    if metric:
        return known.get(key_of(metric))
    return next((arm for arm in known.values() if arm.moments), None)


def _of_children(table: Mapping[str, Any], n: int | None) -> tuple[Arm | None, Arm | None] | None:
    """Return the two arms of a table that holds exactly two methods."""
    found = [
        arm
        for name, value in table.items()
        if isinstance(value, Mapping)
        and not comparisons.is_one(value)
        and (arm := _arm_of(value, "", n))
    ]
    return (found[0], found[1]) if len(found) == 2 else None


def _of_rows(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], n: int | None
) -> tuple[Arm | None, Arm | None] | None:
    """Return the arms that a row compares, from the rows of the methods that it names."""
    names = [
        next((row[k] for k in keys if isinstance(row.get(k), str)), None)
        for keys in (METHOD, OTHER)
    ]
    if None in names:
        return None
    pair = []
    for name in names:
        found = [
            r
            for r in rows
            if r is not row
            and r.get("method") == name
            and not any(r.get(k) for k in OTHER)
            and _alike(r, row)
        ]
        arm = _arm_of(found[0], "", n) if len(found) == 1 else None
        pair.append(arm)
    return pair[0], pair[1]


def _alike(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two rows have the same labels but for the methods."""
    labels = ("model", "metric", "dataset", "task", "kind", "setting")
    return all(row.get(k) == other.get(k) for k in labels if row.get(k) and other.get(k))


def _labels(row: Mapping[str, Any]) -> str:
    told = [str(v) for v in row.values() if isinstance(v, str) and v and not _numeric(v)][:3]
    return f" ({', '.join(told)})" if told else ""


def _numeric(text: str) -> bool:
    return printed(text) is not None or plus_minus(text) is not None
