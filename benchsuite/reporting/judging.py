"""From a study's records to its judged claims: which values make an arm, which claims a family."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchsuite.records.record import Record
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.results import StudyResults
from benchsuite.statistics.inference.claims import Arm, Judgement, Question, judge_family
from benchsuite.statistics.inference.sequential import Plan
from benchsuite.statistics.pairing import PerItem, grouped_alike, neighbours, per_item
from benchsuite.statistics.ranking import Ranking
from benchsuite.study import Claim, Metric, Study
from benchsuite.study.metric import NEIGHBOURS

Columns = Callable[[Record], Mapping[str, Any]]


def judge_study(
    results: StudyResults,
    *,
    columns: Columns | None = None,
    alpha: float = 0.05,
    plan: Plan | None = None,
    declared: int = 0,
) -> list[Judgement]:
    """Judge every claim of the study on every group of its grid.

    All comparisons on real weights are one Holm family, those on stand-ins another. They count, run
    or not, on every model that was asked for (``results.asked``) or tried, and on no other;
    ``declared`` is the least size of each family. ``plan`` says at how many seeds there was to be a
    look, where they were added until claims were decided.

    ``columns(record)`` returns the per-item evidence of a record (``Store.columns``); without it
    the paired item tests are left out. Rehearsals are never judged: their quality means nothing.
    """
    groups = groups_of(results.cells, results.records)
    tried = {*results.failed, *results.stale}
    asked = {*results.asked, *(cell.place for cell in results.cells if cell.id in tried)}
    return judge_groups(
        results.study,
        groups,
        columns=columns,
        alpha=alpha,
        plan=plan,
        asked=asked,
        declared=declared,
    )


def judge_groups(
    study: Study,
    groups: Sequence[Group],
    *,
    columns: Columns | None = None,
    alpha: float = 0.05,
    plan: Plan | None = None,
    asked: Collection[str] = (),
    declared: int = 0,
) -> list[Judgement]:
    """Judge every claim of a study on the given groups; see ``judge_study``.

    ``asked`` are the places (``Cell.place``) that count without a record too.
    """
    judged = []
    for kind in ("real", "stand_in"):
        mine = [group for group in groups if group.kind == kind]
        questions = _questions(study, mine, columns, asked)
        judged += judge_family(questions, alpha=alpha, plan=plan, declared=declared)
    return judged


def _questions(
    study: Study, groups: Sequence[Group], columns: Columns | None, asked: Collection[str]
) -> list[Question]:
    questions = []
    for group in groups:
        counts = bool(group.records) or group.cells[0].place in asked
        for claim in study.claims:
            if not {claim.method, claim.other or claim.method} <= set(group.methods):
                continue
            arm = _arm(group, study, claim, claim.method, columns)
            other = _arm(group, study, claim, claim.other, columns) if claim.other else None
            if other is not None:
                arm, other = _as_often(study, claim, arm, other)
            shown = study.metric(claim.metric)
            if other is not None and shown.clusters and shown.clusters != NEIGHBOURS:
                every = (*_items(arm), *_items(other))
                arm = arm if grouped_alike(every) else replace(arm, torn=shown.clusters)
            questions.append(Question(claim, group.label, arm, other, claim.by_seed, shown, counts))
    return questions


def _items(arm: Arm) -> list[Any]:
    return [*map(per_item, arm.items.values()), *arm.rankings.values()]


def _arm(group: Group, study: Study, claim: Claim, method: str, columns: Columns | None) -> Arm:
    values, metric = group.values(method, claim.metric), study.metric(claim.metric)
    if claim.over_items:
        return _ranked_arm(group, metric, method, values, columns)
    missing = [c.id for c in group.methods[method] if c.seed not in values]
    ran = {record.cell.id for record in group.records_of(method).values()}
    empty = [i for i in missing if i in ran]
    arm = Arm(values, missing=missing, constant=method in study.once, empty=empty)
    if metric.items is None:
        return arm
    items, others = {}, False
    unsaid: dict[str, Any] = {}
    if columns is not None and claim.other and not missing:
        for seed, record in group.records_of(method).items():
            told = columns(record) if record.items else {}
            found = items_of(told, metric)
            others |= bool(record.items)
            if found is not None:
                items[seed] = found
                unsaid |= _unsaid(told, metric, len(found))
    if any(_make_another_number(items[seed], metric, values[seed]) for seed in items):
        return replace(arm, unlike=metric.items[0])
    lacking = metric.items[0] if others and not items else ""
    return replace(arm, items=items, item_metric=metric.items[1], lacking=lacking, **unsaid)


def _make_another_number(found: PerItem, metric: Metric, value: float) -> bool:
    """Say whether items are grossly not what a metric is made of: percents for shares, a sign.

    A study's own function that makes it, and raises, makes no number.
    """
    numbers = np.asarray(found.values, float)
    if metric.items is None or not numbers.size or not np.isfinite(numbers).all():
        return False
    try:
        made = float(metric.items[1](numbers.mean()))
    except Exception:
        return True
    return abs(made - value) > max(abs(made), abs(value)) / 2 + 1e-6


def items_of(columns: Mapping[str, Any], metric: Metric) -> PerItem | None:
    """Return a metric's values of a record's items, with their names, where the record has them.

    A column of texts, which a metric was declared of later, is none of them.
    """
    found = columns.get(metric.items[0]) if metric.items else None
    if found is None or found.dtype.kind not in "biuf":
        return None
    return PerItem(found, *_names(columns, metric, len(found)))


def _names(columns: Mapping[str, Any], metric: Metric, n: int) -> tuple[Any, Any]:
    """Return which items a record's are, and what they share; None where the record does not say.

    Columns of another length are of another kind of item.
    """
    ids, clusters = columns.get(metric.ids), columns.get(metric.clusters)
    if metric.clusters == NEIGHBOURS:
        clusters = neighbours(n)
    ids, clusters = (None if c is None or len(c) != n else c for c in (ids, clusters))
    return ids, clusters


def _unsaid(columns: Mapping[str, Any], metric: Metric, n: int) -> dict[str, Any]:
    """Return the columns that the metric declares and the record lacks, by what they would say."""
    found = zip(("unnamed", "ungrouped"), (metric.ids, metric.clusters), strict=True)
    missing = {what: name for what, name in found if name and len(columns.get(name, ())) != n}
    return {what: name for what, name in missing.items() if name != NEIGHBOURS}


def _ranked_arm(
    group: Group,
    metric: Metric,
    method: str,
    values: Mapping[int, Any],
    columns: Columns | None,
) -> Arm:
    """Return an arm whose metric is the AUROC of its items; a value may be undefined there."""
    found = group.records_of(method)
    missing = [c.id for c in group.methods[method] if c.seed not in found]
    rankings, lacking = {}, ""
    unsaid: dict[str, Any] = {}
    for seed, record in found.items():
        told = columns(record) if columns else {}
        absent = [name for name in metric.ranking or () if name not in told]
        lacking = lacking or "".join(absent[:1])
        if not absent:
            rankings[seed] = ranking_of(told, metric)
            unsaid |= _unsaid(told, metric, len(told[(metric.ranking or ("",))[0]]))
    lacking = "" if rankings or not columns else lacking
    return Arm(values, missing=missing, rankings=rankings, lacking=lacking, **unsaid)


def ranking_of(columns: Mapping[str, Any], metric: Metric) -> Ranking:
    """Return which items of a record were answered wrong, bool, and how unsure the answers were.

    The metric says in which columns. Items without a score are left out.
    """
    right, unsure = (columns[name] for name in metric.ranking or ())
    scored = unsure == unsure
    names = _names(columns, metric, len(right))
    told = (None if column is None else column[scored] for column in names)
    return Ranking(~right[scored], unsure[scored], *told)


def _as_often(study: Study, claim: Claim, arm: Arm, other: Arm) -> tuple[Arm, Arm]:
    """Let a method that runs once stand as the constant that it is, for each of the other's seeds.

    It has no randomness of its own: more seeds would repeat the same number.
    """
    if claim.method in study.once and claim.other not in study.once:
        return _repeated(arm, other), other
    if claim.other in study.once and claim.method not in study.once:
        return arm, _repeated(other, arm)
    return arm, other


def _repeated(once: Arm, other: Arm) -> Arm:
    if len(once.values) != 1:
        return once
    (value,), items = once.values.values(), list(once.items.values())
    return replace(
        once,
        values=dict.fromkeys(other.values, value),
        items=dict.fromkeys(other.values, items[0]) if items else {},
    )
