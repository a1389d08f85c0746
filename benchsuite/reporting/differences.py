"""How far each method lies from the original: what it costs to compress, with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchsuite.reporting import numbers, strip
from benchsuite.reporting.groups import Group
from benchsuite.statistics.compare import Comparison, one_sample, paired, welch
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.rounding import LARGE, of_difference
from benchsuite.statistics.samples import as_sample, refusal
from benchsuite.study import Metric, Study

ONE_RUN = "one run: no interval"
ONE_ORIGINAL = "one run of the original: no interval"
ALL_EQUAL = "the same for every seed"


@dataclass(frozen=True)
class Difference:
    """A method minus the original, in the metric's stored unit.

    ``low`` and ``high`` are the 95 % interval over seeds, not corrected for the number of methods;
    None where ``reason`` says why there is none. ``matters`` is ``worse`` or ``better`` where the
    interval leaves zero and the difference is as large as the metric's margin, else empty; a
    difference without an interval is never said to matter.
    """

    value: float
    relative: float | None
    low: float | None
    high: float | None
    matters: str
    reason: str


def from_original(study: Study, group: Group, metric: Metric) -> dict[str, Difference]:
    """Return method -> its difference to the study's original, for those that have a value.

    Values out of the range of every test have a mean no more than a difference.
    Where the original runs once, its value carries no error. Where it has seeds of its own, runs of
    equal seeds are paired, and without two such the means are compared by Welch's interval.
    """
    base = group.values(study.original, metric.name) if study.original else {}
    if not base or _without_mean(base):
        return {}
    found = {}
    for method in group.methods:
        values = group.values(method, metric.name)
        if values and method != study.original and not _without_mean(values):
            once = len(base) == 1 and study.original in study.once
            found[method] = _difference(metric, values, base, once)
    return found


def _without_mean(values: Mapping[int, float]) -> bool:
    return bool(refusal(("", as_sample(values.values())), least=1))


def _difference(
    metric: Metric, values: Mapping[int, float], base: Mapping[int, float], once: bool
) -> Difference:
    test = _test(values, base, once)
    original = sum(base.values()) / len(base)
    value = sum(values.values()) / len(values) - original
    if test is not None and test.difference is not None:
        value = test.difference
    low, high = (None, None) if test is None else (test.ci_low, test.ci_high)
    share = value / original if original > 0 and metric.unit != "%" else None
    matters = _matters(metric, value, original, low, high)
    reason = "" if low is not None else _without_interval(values, test)
    return Difference(value, share, low, high, matters, reason)


def _without_interval(values: Mapping[int, float], test: Comparison | None) -> str:
    if test is None:
        return ONE_RUN if len(values) == 1 else ONE_ORIGINAL
    return ALL_EQUAL if test.difference is not None else test.reason


def _test(values: Mapping[int, float], base: Mapping[int, float], once: bool) -> Comparison | None:
    if len(values) < 2:
        return None
    if once:
        return one_sample(values.values(), next(iter(base.values())))
    shared = sorted(set(values) & set(base))
    if len(shared) > 1:
        return paired([values[seed] for seed in shared], [base[seed] for seed in shared])
    return welch(values.values(), base.values()) if len(base) > 1 else None


def _matters(
    metric: Metric, value: float, original: float, low: float | None, high: float | None
) -> str:
    if not metric.better or low is None or high is None or low <= 0 <= high:
        return ""
    if abs(value) < absolute(metric.margin, original, metric.scale):
        return ""
    return "better" if (value > 0) == (metric.better == "higher") else "worse"


def shared_axis(differences: Mapping[str, Difference]) -> strip.Axis | None:
    """Return the axis of a group's bars, from zero to the largest; None without differences."""
    if not differences:
        return None
    reach = [d.value for d in differences.values()]
    low, high = min(0.0, *reach), max(0.0, *reach)
    return strip.Axis(low, high, ()) if low < high else strip.Axis(low - 1, high + 1, ())


def view(metric: Metric, found: Difference, axis: strip.Axis) -> dict[str, Any]:
    """Return what the page shows of a difference: texts, and its bar in percent of the width."""
    text = numbers.interval(metric, found.value, found.low, found.high)
    value, _, bounds = text.partition(" ")
    ends = sorted((axis.place(0.0), axis.place(_inside(axis, found.value))))
    shown = None
    if found.low is not None and found.high is not None and found.low < found.high:
        shown = [axis.place(_inside(axis, end)) for end in (found.low, found.high)]
    return {
        "key": found.value,
        "value": of_difference(metric, f"+{value}" if found.value > 0 else value),
        "bounds": bounds,
        "relative": "" if found.relative is None else _percent(found.relative),
        "reason": found.reason,
        "matters": found.matters,
        "bar": ends,
        "interval": shown,
        "zero": axis.place(0.0),
    }


def _inside(axis: strip.Axis, value: float) -> float:
    return min(max(value, axis.start), axis.stop)


def _percent(share: float) -> str:
    digits = f"{abs(share) * 100:.3g}"
    if "e" in digits and 1 <= abs(share) * 100 < LARGE:
        digits = f"{abs(share) * 100:.0f}"
    return f"{'−' if share < 0 else '+'}{digits} %"
