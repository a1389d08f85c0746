"""One model's methods on the page: values, strips, differences to the original, records."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchsuite.records.record import Record
from benchsuite.reporting import differences, numbers, published, strip
from benchsuite.reporting.best import best_method as best_of
from benchsuite.reporting.figures import tradeoff
from benchsuite.reporting.groups import Group
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.summary import arms_as_shown, described
from benchsuite.statistics.rounding import short
from benchsuite.study import Metric, Study

# Beyond this a study's dots are drawn without a name each, and its records listed in a file.
MOST_DOTS = 3000


def title(group: Group) -> dict[str, Any]:
    """Return a group's model, and apart from it what tells it from the study's own grid."""
    return {"model": group.document_name, "marks": group.marks}


def place_of(name: str) -> str:
    """Return the name in an address of a group's table; ``name`` is the label of its claims."""
    return re.sub(r"[^\w.-]", "-", name)


def model_view(results: StudyResults, group: Group) -> dict[str, Any]:
    """Return one model's methods: text, strip and links to the records behind them.

    Controls, and methods far worse than most, are drawn on the axis of the others and leave it.
    """
    study, metric = results.study, results.study.ranked_by
    arms = arms_as_shown(group, metric)
    near = _near(study, metric, arms)
    axis = strip.shared_axis([arms[m] for m in near]) if near else None
    best = best_of(study, group)
    apart = differences.from_original(study, group, metric)
    bars = differences.shared_axis({m: d for m, d in apart.items() if m in near})
    links = None if len(results.records) > MOST_DOTS else results.links
    shown, items = replace(metric, scale=1), results.item_names
    return {
        "title": title(group),
        "place": place_of(group.label),
        "stand_in": group.stand_in,
        "axis": axis,
        "original": study.original if apart else "",
        "methods": [
            method_view(group, shown, method, arm, axis, links=links, items=items)
            | {
                "best": method == best,
                "control": method in study.controls,
                "difference": _difference_view(metric, apart.get(method), bars),
            }
            for method, arm in _by_result(study, metric, arms)
        ],
        "figures": tradeoff.views(study, group),
        "further": further_view(study, group),
        "published": published.beside(group),
        "missing": len(group.missing),
    }


def _near(study: Study, metric: Metric, arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the methods that set the axis: no controls, and none far worse than most."""
    means = {
        m: a["mean"] for m, a in arms.items() if m not in study.controls and a["mean"] is not None
    }
    if not means or not metric.better:
        return list(means) or list(arms)
    higher = metric.better == "higher"
    best = max(means.values()) if higher else min(means.values())
    reach = strip.reach(means.values(), higher=higher)
    return [method for method, mean in means.items() if abs(mean - best) <= reach]


def _by_result(
    study: Study, metric: Metric, arms: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the original, then the methods from the best mean on, then the controls.

    Where no side is better, the methods stay in the grid's order.
    """
    sign = {"lower": 1, "higher": -1, "": 0}[metric.better]

    def place(arm: tuple[str, Mapping[str, Any]]) -> tuple[int, float]:
        method, seen = arm
        if method == study.original:
            return (0, 0.0)
        unknown = seen["mean"] is None
        return (3 if method in study.controls else 1 + unknown, sign * (seen["mean"] or 0.0))

    return sorted(arms.items(), key=place)


def _difference_view(
    metric: Metric, found: differences.Difference | None, axis: strip.Axis | None
) -> dict[str, Any] | None:
    return None if found is None or axis is None else differences.view(metric, found, axis)


def method_view(
    group: Group,
    metric: Metric,
    method: str,
    arm: Mapping[str, Any],
    axis: Any,
    *,
    links: Mapping[str, str] | None,
    items: Mapping[str, str],
) -> dict[str, Any]:
    """Return one row of a model's table; without ``links`` its records are not listed.

    ``items`` are the names by which cells are found on the page of items.

    ``arm`` and ``metric`` are in the unit that is shown.
    """
    low, high = arm["ci95"] or (None, None)
    interval = numbers.interval(metric, arm["mean"], low, high).partition(" ")[2]
    records = [] if links is None else sorted(group.records_of(method).items())
    drawn = strip.strip(arm, axis)
    return {
        "method": method,
        "n": arm["n"],
        "key": arm["mean"],
        "n_declared": len(group.methods[method]),
        "value": numbers.spread(metric, arm["mean"], arm["std"]),
        "interval": interval if low != high else "",
        "cv": "" if arm["cv_percent"] is None else f"{short(arm['cv_percent'])} %",
        "reason": _without_interval(arm),
        "strip": drawn,
        "path": strip.path(drawn) if links is None else "",
        "records": [
            {
                "seed": seed,
                "value": numbers.one(metric, arm["values"][i], 6),
                "href": record_href(record, links),
                "item_name": items.get(record.cell.id),
            }
            for i, (seed, record) in enumerate((s, r) for s, r in records if s in arm["seeds"])
        ],
    }


def _without_interval(arm: Mapping[str, Any]) -> str:
    low, high = arm["ci95"] or (None, None)
    if low is not None and low == high:
        # An interval can be narrower than the last bit of a mean of unequal values.
        return differences.ALL_EQUAL if len(set(arm["values"])) == 1 else "too narrow to show"
    return "one seed: no interval" if arm["n"] == 1 else arm["reason"]


def further_view(study: Study, group: Group) -> dict[str, Any] | None:
    """Return the study's further metrics, a column each, or None if no record holds one."""
    metrics = [metric for metric in study.metrics[1:] if not metric.parts]
    rows = []
    for method in group.methods:
        arms = [described(v) if (v := group.values(method, m.name)) else None for m in metrics]
        if any(arms):
            n = len(group.records_of(method))
            told = [_further(m, a, n) if a else "–" for m, a in zip(metrics, arms, strict=True)]
            rows.append({"method": method, "values": told})
    return {"metrics": [metric.heading for metric in metrics], "rows": rows} if rows else None


def _further(metric: Metric, arm: Mapping[str, Any], n: int) -> str:
    """Return a further metric of ``n`` records, with the number of those that hold it."""
    told = numbers.spread(metric, arm["mean"], arm["std"], unit=False)
    return told if arm["n"] == n else f"{told} (n = {arm['n']})"


def record_href(record: Record, links: Mapping[str, str] | None) -> str | None:
    """Return the record's file relative to the reports folder: given, or by its fingerprint."""
    if links:
        return links.get(record.cell.id)
    return f"store/records/{record.fingerprint.value}.json" if record.sha256 else None
