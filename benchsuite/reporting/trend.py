"""Each method's metric over nights: its noise, where it changed, and what else changed then."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.errors import UsageError
from benchsuite.printable import count, some
from benchsuite.records.record import Record
from benchsuite.reporting import numbers
from benchsuite.reporting.groups import Group, group_key, groups_of
from benchsuite.reporting.merging import read_sources, results_of
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.weights import are_apart, identity
from benchsuite.statistics.inference.changes import Change
from benchsuite.statistics.inference.nights import over_nights, spent
from benchsuite.statistics.rounding import p_text
from benchsuite.study import Metric

ALPHA = 0.05
FACTS = ("benchsuite", "torch", "transformers", "python", "driver", "device")

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Night:
    """One folder's results: ``name`` is the day of its last record, with the time if two share it.

    ``facts`` are the versions and devices under which its records were measured.
    """

    folder: Path
    name: str
    results: Sequence[StudyResults]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Series:
    """One method's ranked metric over the nights: values by seed, and the change at each.

    By night, ``code`` is the digest of the code that measured it, and ``weights`` say which weights
    it measured.
    """

    study: str
    group: str
    method: str
    metric: Metric
    values: Sequence[Mapping[int, float]]
    changes: Sequence[Change | None]
    code: Sequence[str]
    weights: Sequence[Set[tuple[str, str]]]

    def is_worse(self, night: int) -> bool | None:
        """Say whether a change was for the worse; None where there is none, or no better side."""
        change = self.changes[night]
        if change is None or not change.difference or not self.metric.better:
            return None
        return (change.difference < 0) == (self.metric.better == "higher")

    def marks(self) -> Iterator[tuple[int, Change]]:
        """Yield the nights whose change is beyond the noise."""
        for night, change in enumerate(self.changes):
            if change is not None and change.outcome == "beyond_noise":
                yield night, change

    def stretch_of(self, night: int) -> int:
        """Return the night with which the stretch began that holds a night."""
        measured = next(i for i, values in enumerate(self.values) if values)
        return max([measured, *(i for i, _ in self.marks() if i <= night)])


def read_nights(folders: Sequence[str | Path]) -> list[Night]:
    """Return the nights in the order of their last records; two at least.

    Raises ``UsageError`` of fewer.
    """
    nights = {os.path.realpath(folder): Path(folder) for folder in folders}
    if len(nights) < 2:
        raise UsageError(
            f"a trend needs two nights, and {count(len(nights), 'folder')} was named",
            fix="name a reports folder for each night: benchsuite trend monday tuesday",
        )
    found = []
    for folder in nights.values():
        results = results_of(read_sources([folder]))
        records = [r for one in results for r in one.records.values()]
        last = max((r.started_at for r in records), default="")
        found.append((last, folder, results, _facts(records)))
    found.sort(key=lambda night: night[0])
    days = [last[:10] for last, *_ in found]
    return [
        Night(folder, _named(last, days), results, facts) for last, folder, results, facts in found
    ]


def _named(last: str, days: Sequence[str]) -> str:
    return last[:10] if days.count(last[:10]) == 1 else last[:16].replace("T", " ")


def _facts(records: Sequence[Record]) -> dict[str, str]:
    told = {}
    for name in FACTS:
        values = {str(r.environment[name]) for r in records if r.environment.get(name)}
        told[name] = ", ".join(sorted(values))
    return told


def series_of(nights: Sequence[Night], *, alpha: float = ALPHA) -> list[Series]:
    """Return every method's series on real weights; all of a night are one family.

    A checkpoint that was given is none of the study's making and has no series, nor have further
    weights under a model's name.
    """
    values: dict[Key, list[dict[int, float]]] = {}
    code: dict[Key, list[str]] = {}
    weights: dict[Key, list[Set[tuple[str, str]]]] = {}
    metrics: dict[str, Metric] = {}
    for place, night in enumerate(nights):
        for one in (results for results in night.results if not results.weights):
            metric = metrics.setdefault(one.study.name, one.study.ranked_by)
            for group in groups_of(one.cells, one.records):
                for method in group.methods if group.kind == "real" else ():
                    arm = _numbers(group.values(method, metric.name))
                    if arm:
                        # By its own setting: in others' groups it stands with the same records.
                        key = (one.study.name, group_key(group.methods[method][:1]), method)
                        values.setdefault(key, [{} for _ in nights])[place] = arm
                        code.setdefault(key, [""] * len(nights))[place] = _code(group, method)
                        met = {identity(r) for r in group.records_of(method).values()}
                        weights.setdefault(key, [set() for _ in nights])[place] = met
    changes = over_nights(values, alpha=alpha)
    return [
        Series(*key, metrics[key[0]], arms, changes[key], code[key], weights[key])
        for key, arms in sorted(values.items())
    ]


def _code(group: Group, method: str) -> str:
    return " ".join(sorted({r.fingerprint.code for r in group.records_of(method).values()}))


def _numbers(values: Mapping[int, Any]) -> dict[int, float]:
    return {
        seed: float(v)
        for seed, v in values.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    }


def lines(nights: Sequence[Night], series: Sequence[Series]) -> list[str]:
    """Return the trend in words: the nights, each change with what changed beside it, the rest."""
    told = [f"{count(len(nights), 'night')}: {', '.join(night.name for night in nights)}"]
    for one in series:
        told += [_sentence(nights, one, night, change) for night, change in one.marks()]
    changed = sum(any(True for _ in one.marks()) for one in series)
    untested = [one for one in series if _moved_untested(one)]
    told.append(
        f"{changed} of {count(len(series), 'series', 'series')} changed beyond the noise of seeds"
    )
    if untested:
        names = some([f"{one.group}/{one.method}" for one in untested], 5)
        told.append(f"moved, and one seed shows no noise to compare with: {names}")
    return told


def _moved_untested(series: Series) -> bool:
    return any(change is not None and change.outcome == "unknown" for change in series.changes)


def _sentence(nights: Sequence[Night], one: Series, night: int, change: Change) -> str:
    before = one.values[one.stretch_of(night - 1)]
    way = {True: "worse", False: "better", None: "changed"}[one.is_worse(night)]
    was, now = (
        numbers.over_seeds(one.metric, before),
        numbers.over_seeds(one.metric, one.values[night]),
    )
    text = (
        f"{way}: {one.study}/{one.group}/{one.method} {one.metric.name} on {nights[night].name}: "
    )
    text += f"{was} before, {now} since, {_why(change, night)}"
    beside = what_changed(nights, one, night)
    return f"{text}. With it changed {beside}" if beside else text


def _why(change: Change, night: int) -> str:
    if change.p_value is None:
        return f"for {change.reason}"
    return f"Holm {p_text(change.p_holm)}, the night's bar {spent(night, ALPHA):.2g}"


def what_changed(nights: Sequence[Night], one: Series, night: int) -> str:
    """Return what else differs from when a series was measured last: versions, weights, code."""
    last = max(i for i in range(night) if one.values[i])
    before, now = nights[last].facts, nights[night].facts
    told = [f"{n} ({before[n] or '?'} to {now[n] or '?'})" for n in FACTS if before[n] != now[n]]
    if are_apart(one.weights[last], one.weights[night]):
        told.append("the model's weights")
    if one.code[last] != one.code[night]:
        told.append("the code that measures it")
    return ", ".join(told)
