"""The source document's ``summary_stats.json``, and what it leaves out."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from benchsuite.records.record import Record
from benchsuite.reporting import numbers, over_models, published, wording
from benchsuite.reporting.best import best_method
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.judging import judge_groups
from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.inference.claims import ClaimLike, Judgement
from benchsuite.statistics.inference.wording import seeds_run
from benchsuite.study import Metric, Study
from benchsuite.study.cell import Cell

SCHEMA_VERSION = 1
# The one key beside the models: everything the source document's structure has no place for.
EXTRA = "_benchsuite"


def summarise(
    study: Study,
    cells: Iterable[Cell],
    records: Mapping[str, Record] | Sequence[Record],
    judgements: Sequence[Judgement] | None = None,
    over: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a study's summary under the source documents' model names.

    Each model holds, per method, its metric under the source document's key (``ppl``: mean, std,
    cv_percent, min, max, and n, ci95, seeds, values), ``times``, and a ``ttest_A_vs_B`` for every
    declared comparison. Numbers are as stored; ``metric_facts`` says their units. Only real weights
    stand there; stand-ins, rehearsals, timings per device, missing cells, judgements and
    published values are under ``_benchsuite``. Claims are judged here if ``judgements`` is None,
    over models if ``over`` is.
    """
    grid = list(cells)
    groups = groups_of(grid, records)
    if judgements is None:
        judgements = judge_groups(study, groups)
    summary: dict[str, Any] = {}
    stand_ins, rehearsals = {}, {}
    for group in groups:
        mine = [j for j in judgements if j.model == group.label]
        if group.kind == "rehearsal":
            rehearsals[group.key] = {m: rehearsed(study, group, m) for m in _run(group)}
        elif group.kind == "stand_in":
            stand_ins[group.key] = {"reason": group.stand_in, **model_summary(study, group, mine)}
        elif group.records:
            summary[group.key] = model_summary(study, group, mine)
    summary[EXTRA] = {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "question": study.question,
        "metric": study.ranked_by.name,
        "metrics": [metric.name for metric in study.metrics[1:]],
        "metric_facts": {m.name: study.metric(m.name).as_dict() for m in study.metrics},
        "making": list(study.making),
        "stand_ins": stand_ins,
        "rehearsals": rehearsals,
        "timings": timings(study, groups),
        "judgements": [j.as_dict() for j in judgements],
        **(over_models.over(study, groups) if over is None else over),
        "null_results": null_results(study, groups, judgements),
        "published": {g.key: rows for g in groups if (rows := published.beside(g))},
        "missing": [cell.id for group in groups for cell in group.missing],
        "n_records": sum(len(group.records) for group in groups),
        "n_cells": len(grid),
    }
    return summary


def told_apart(summary: Mapping[str, Any], words: str) -> dict[str, Any]:
    """Return a summary whose models are named with ``words``: ``tiny_llama_1m (checkpoint)``.

    So it may stand beside the summary of the models' own weights, whose names are the same.
    """

    def named(models: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{model} ({words})": found for model, found in models.items()}

    extra: Mapping[str, Any] = summary[EXTRA]
    told: dict[str, Any] = {}
    for key in ("stand_ins", "rehearsals", "published"):
        told[key] = named(extra[key])
    for key in ("timings", "judgements", "null_results"):
        told[key] = [row | {"model": f"{row['model']} ({words})"} for row in extra[key]]
    for key in ("over_models", "ranks"):
        settings = [", ".join(filter(None, (row["setting"], words))) for row in extra[key]]
        told[key] = [row | {"setting": s} for row, s in zip(extra[key], settings, strict=True)]
    told["missing"] = [f"{cell_id} ({words})" for cell_id in extra["missing"]]
    models = named({key: found for key, found in summary.items() if key != EXTRA})
    return {**models, EXTRA: {**extra, **told}}


def model_summary(study: Study, group: Group, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return one group's methods and comparisons in the source document's structure."""
    out: dict[str, Any] = {}
    best = best_method(study, group)
    for method in _run(group):
        records = list(group.records_of(method).values())
        out[method] = {"times": times(study, records)}
        for metric in study.metrics:
            values = group.values(method, metric.name)
            if metric.parts:
                found = parts(records, metric)
            else:
                found = described(values) if values or metric == study.ranked_by else {}
            out[method] |= {metric.document_key: found} if found else {}
        if method == best:
            out[method]["best"] = True
    # The document's key is that of a difference, where its equivalence is claimed too.
    for judgement in sorted(judgements, key=lambda j: j.claim.kind == "equivalent"):
        if judgement.claim.other:
            out[_comparison_key(study, judgement.claim, out)] = comparison(judgement)
    return out


def _comparison_key(study: Study, claim: ClaimLike, taken: Collection[str]) -> str:
    """Return the source document's key of a comparison; a further claim on its arms is told."""
    which = "" if claim.metric == study.ranked_by.name else f"__{claim.metric}"
    key = f"ttest_{claim.method}_vs_{claim.other}{which}"
    kind = f"{key}__{claim.kind}"
    further = (f"{kind}_{n}" for n in itertools.count(2))
    return next(name for name in itertools.chain((key, kind), further) if name not in taken)


def described(values: Mapping[int, float]) -> dict[str, Any]:
    """Return the source document's statistics of one arm with n, interval, seeds and values."""
    seeds = sorted(values)
    seen = describe(values[seed] for seed in seeds)
    return {
        "mean": seen.mean,
        "std": seen.std,
        "cv_percent": seen.cv_percent,
        "min": seen.min,
        "max": seen.max,
        "n": seen.n,
        "ci95": None if seen.ci_low is None else [seen.ci_low, seen.ci_high],
        "seeds": seeds,
        "values": [values[seed] for seed in seeds],
        "reason": seen.reason or None,
    }


def arms_as_shown(group: Group, metric: Metric) -> dict[str, dict[str, Any]]:
    """Return method -> its statistics in the unit that the metric is shown in, where it has any."""
    return {
        method: described(numbers.as_shown(metric, values))
        for method in group.methods
        if (values := group.values(method, metric.name))
    }


def comparison(judgement: Judgement) -> dict[str, Any]:
    """Return a comparison in the source document's format, with the test that decided beside it.

    ``t_stat`` and ``p_value`` are Student's for two seeded arms, as the source document has them,
    and the one-sample (or paired) test's otherwise; ``test`` says which. ``decided_by`` is the test
    that the claim was judged with, after Holm's correction; an equivalence is judged by
    ``p_equivalence``, at the edge of its margin. ``ci95`` is uncorrected, as the
    document's is; ``ci_simultaneous`` is the corrected verdict's own.
    """
    seen, claim = judgement.evidence, judgement.claim
    what = {"method": claim.method, "other": claim.other, "metric": claim.metric}
    if judgement.outcome == "not_run":
        missing = {"missing": seen["missing"], "reason": judgement.sentence}
        return {"t_stat": None, "p_value": None, "cohens_d": None, "test": None, **what, **missing}
    two_arms = seen["test"] == "welch" and seen["student"]["statistic"] is not None
    shown = seen["student"] if two_arms else seen
    n, n_other = seeds_run(seen)
    return {
        "t_stat": shown["statistic"],
        "p_value": shown["p_value"],
        "cohens_d": seen["cohens_d"],
        "test": "student" if two_arms else seen["test"],
        **what,
        "df": shown["df"],
        "n": n,
        "n_other": n_other,
        "hedges_g": seen["hedges_g"],
        "effect": seen.get("effect"),
        "effect_name": seen.get("effect_name"),
        "difference": seen["difference"],
        "ci95": seen["ci95"],
        "ci95_method": "uncorrected",
        "ci_simultaneous": seen.get("ci_simultaneous"),
        "ci_simultaneous_method": seen.get("ci_simultaneous_method"),
        "decided_by": seen["test"],
        "welch": seen["welch"],
        "exact_p": seen["exact_p"],
        "p_guarded": seen.get("p_guarded"),
        "p_equivalence": seen.get("p_equivalence"),
        "p_holm": seen.get("p_holm"),
        "family_size": seen.get("family_size"),
        "looks": seen.get("looks"),
        "mde": seen.get("mde"),
        "mde_d": seen.get("mde_d"),
        "mde_corrected": seen.get("mde_corrected"),
        "mde_ci95": seen.get("mde_ci95"),
        "margin": seen.get("margin"),
        "items": seen.get("items"),
        "outcome": judgement.outcome,
        "verdict": judgement.verdict,
        "interpretation": wording.interpretation(judgement),
        "reason": seen["reason"] or None,
    }


def times(study: Study, records: Sequence[Record]) -> dict[str, Any]:
    """Return mean times of the stages that make what is tried, and of all of them.

    None over several device kinds, which are never averaged, and where nothing was made.
    """
    kinds = sorted({r.device_kind for r in records})
    out: dict[str, Any] = {}
    for stage in (*study.making, "total"):
        name = f"{stage}_time_sec"
        made = [r for r in records if stage != "total" or _made(study, r)]
        seen = [seconds for r in made if (seconds := r.value(name)) is not None]
        mean = sum(seen) / len(seen) if seen and len(kinds) == 1 else None
        out[f"{name}_mean"] = mean
    out["device_kind"] = kinds[0] if len(kinds) == 1 else kinds
    out["contended"] = any(r.times.contended for r in records)
    return out


def _made(study: Study, record: Record) -> bool:
    """Say whether a cell made anything: an original has no time of making, not one of 0 s."""
    return bool(record.times.making) or not set(study.making).isdisjoint(record.times.all())


def timings(study: Study, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return mean times per model, method, device and contention: rows that may be ranked apart."""
    rows = []
    for group in groups:
        for method in _run(group):
            records = list(group.records_of(method).values())
            for device, crowded in sorted({on_device(r) for r in records}):
                mine = [r for r in records if on_device(r) == (device, crowded)]
                row = {"model": group.key, "kind": group.kind, "method": method, "n": len(mine)}
                row |= {"device": device, **times(study, mine), "peak_memory_bytes": _peak(mine)}
                rows.append(row)
    return rows


def rehearsed(study: Study, group: Group, method: str) -> dict[str, Any]:
    """Return what a rehearsal can say: times and memory, never quality."""
    records = list(group.records_of(method).values())
    return {
        "n": len(records),
        "times": times(study, records),
        "peak_memory_bytes": _peak(records),
    }


def _peak(records: Sequence[Record]) -> int | None:
    return max((r.peak_memory_bytes for r in records if r.peak_memory_bytes), default=None)


def parts(records: Sequence[Record], metric: Metric) -> dict[str, Any]:
    """Return the mean of each part of a metric, a task for instance, over the seeds that ran it."""
    tables = [r.value(metric.name) for r in records]
    names = sorted({name for table in tables if isinstance(table, Mapping) for name in table})
    out = {}
    for name in names:
        seen = [v for r in records if (v := r.value(f"{metric.name}.{name}")) is not None]
        if seen:
            out[name] = {"mean": sum(seen) / len(seen), "n": len(seen)}
    return out


def null_results(
    study: Study, groups: Sequence[Group], judgements: Sequence[Judgement]
) -> list[dict[str, Any]]:
    """Return the source document's "Reporting Null Results" paragraph for every null over seeds."""
    found = []
    by_label = {group.label: group for group in groups if group.kind != "rehearsal"}
    for judgement in judgements:
        claim = judgement.claim
        tested = judgement.evidence.get("p_value") is not None and not claim.over_items
        if judgement.is_open and claim.kind in ("lower", "higher") and tested:
            parameters = by_label[judgement.model].cells[0].parameters
            text = wording.null_result(study, judgement, parameters)
            found.append(
                {
                    "model": judgement.model,
                    "method": claim.method,
                    "other": claim.other,
                    "text": text,
                }
            )
    return found


def on_device(record: Record) -> tuple[str, bool]:
    """Return the device, and whether another cell ran on it: times are apart by these."""
    return record.device_name, record.times.contended


def _run(group: Group) -> list[str]:
    return [method for method in group.methods if group.records_of(method)]
