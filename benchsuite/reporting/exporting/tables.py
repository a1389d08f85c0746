"""The page's tables as plain ones: made of the page's own views, so that both say the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchsuite.printable import count
from benchsuite.records.record import Record
from benchsuite.reporting.figures.seeds import file_name
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.page.model import model_view
from benchsuite.reporting.page.rendering import WORDS, provenance_of, tight, timing_view
from benchsuite.reporting.results import StudyResults
from benchsuite.study import Study

UNSTATED = "unstated"
_VERSIONS = ("benchsuite", "torch", "transformers", "python")


@dataclass(frozen=True)
class Table:
    """One table: ``rows`` are texts under ``heads``, ``caption`` is sentences.

    ``prose`` are the columns of running text, each with its part of a line's width, ``best`` the
    rows whose method every test confirms as the best, ``reasons`` texts that stand in the place of
    a number. ``exact`` has further columns for programs: numbers that are not rounded, in the unit
    shown. ``name`` is the file's.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: Mapping[str, float] = field(default_factory=dict)
    best: frozenset[int] = frozenset()
    reasons: frozenset[str] = frozenset()
    exact: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    study: str = ""


def tables_of(results: StudyResults) -> Iterator[Table]:
    """Yield a study's tables: of each model its methods, further metrics, times and claims.

    No table mixes kinds of weights: where the records of one model have several, each kind has
    tables of its own.
    """
    for table in _tables(results):
        yield replace(table, study=results.study.name)


def _tables(results: StudyResults) -> Iterator[Table]:
    for group in groups_of(results.cells, results.records):
        if not group.records:
            continue
        parts = by_weights(group)
        for weights, part in parts.items():
            name = file_name(group) + (f"__{weights}" if len(parts) > 1 else "")
            if group.kind == "rehearsal":
                yield from _times(results.study, part, f"{name}__rehearsal")
                continue
            view = model_view(results, part)
            if view["methods"]:
                yield _methods(results.study, part, view, name)
            if view["further"]:
                yield _further(results.study, part, view["further"], f"{name}__further")
            if view["published"]:
                yield _published(results.study, part, view["published"], f"{name}__published")
            yield from _times(results.study, part, name)
        if len(parts) == 1:
            yield from _claims(results, group)
    yield from _over_models(results)


def left_out(results: StudyResults) -> Iterator[str]:
    """Yield what the page shows and no table does, because it is over several kinds of weights."""
    name = results.study.name
    for group in groups_of(results.cells, results.records):
        kinds = list(by_weights(group))
        if len(kinds) > 1:
            told = f"the claims of {name} on {_title(group)} are over {', '.join(kinds)} weights"
            yield f"{told} together; the page shows them, and its rows mix what is apart here"


def by_weights(group: Group) -> dict[str, Group]:
    """Return a group's records apart by their kind of weights."""
    apart: dict[str, dict[str, Record]] = {}
    for cell_id, record in group.records.items():
        apart.setdefault(_weights(record), {})[cell_id] = record
    return {kind: replace(group, records=apart[kind]) for kind in sorted(apart)}


def _weights(record: Record) -> str:
    return record.source.weights or UNSTATED


# --- one model's


def _methods(study: Study, group: Group, view: Mapping[str, Any], name: str) -> Table:
    metric, rows = study.ranked_by, view["methods"]
    heads = ["method", "n", metric.heading, "95 % interval"]
    original = f"minus {view['original']}"
    heads += [original, "its 95 % interval", "relative"] if view["original"] else []
    told = [(*_value(row), *(_apart(row) if view["original"] else ()), row["cv"]) for row in rows]
    apart = [row["difference"] for row in rows]
    reasons = {row["reason"] for row in rows} | {d["reason"] for d in apart if d}
    exact: dict[str, list[float | None]] = {"mean, unrounded": [row["key"] for row in rows]}
    if view["original"]:
        scaled = [d["key"] * metric.scale if d else None for d in apart]
        exact[f"{original}, unrounded"] = scaled
    return Table(
        name,
        f"{_title(group)}: {metric.name}",
        (
            f"{_title(group)}: {metric.heading}{_side(study)}, mean ± standard deviation over "
            f"seeds, {_seeds(rows)}",
            "The interval is the 95 % t-interval of the mean over seeds",
            *_how_apart(view["original"]),
            *(["Bold is a best that every test confirms"] if any(r["best"] for r in rows) else []),
            *_controls(rows),
            *facts(group),
        ),
        (*heads, "cv"),
        tuple(told),
        best=frozenset(i for i, row in enumerate(rows) if row["best"]),
        reasons=frozenset(filter(None, reasons)),
        exact=exact,
    )


def _value(row: Mapping[str, Any]) -> tuple[str, ...]:
    n = str(row["n"]) if row["n"] == row["n_declared"] else f"{row['n']} of {row['n_declared']}"
    return row["method"], n, row["value"], row["interval"] or row["reason"]


def _apart(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = row["difference"]
    if not found:
        return "", "", ""
    return found["value"], found["bounds"] or found["reason"], found["relative"]


def _seeds(rows: Sequence[Mapping[str, Any]]) -> str:
    low, high = min(row["n"] for row in rows), max(row["n"] for row in rows)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _how_apart(original: str) -> list[str]:
    if not original:
        return []
    return [
        f"Differences to {original} have the 95 % interval over seeds, not corrected for the "
        "number of methods"
    ]


def _controls(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    controls = [row["method"] for row in rows if row["control"]]
    return [f"Controls, which must come out far off: {', '.join(controls)}"] if controls else []


def _further(study: Study, group: Group, view: Mapping[str, Any], name: str) -> Table:
    return Table(
        name,
        f"{_title(group)}: further metrics",
        (
            f"{_title(group)}: further metrics of {study.name}, mean ± standard deviation over "
            f"seeds, {_per_method(group)}",
            *facts(group),
        ),
        ("method", *view["metrics"]),
        tuple((row["method"], *row["values"]) for row in view["rows"]),
    )


def _per_method(group: Group) -> str:
    return _seeds([{"n": n} for method in group.methods if (n := len(group.records_of(method)))])


def _published(study: Study, group: Group, rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    told = [
        (
            row["label"],
            str(row["value"]),
            f"{row['source']} [{row['status']}]",
            "same protocol" if row["comparable"] else f"context: {row['why']}",
        )
        for row in rows
    ]
    return Table(
        name,
        f"{_title(group)}: published values",
        (
            f"{_title(group)}: published values of {study.ranked_by.heading}, beside which "
            "nothing was measured anew; [P] is read in the source, [S] known from another one",
        ),
        ("configuration", study.ranked_by.heading, "source", "here"),
        tuple(told),
        prose={"configuration": 0.2, "source": 0.34, "here": 0.2},
    )


def _times(study: Study, group: Group, name: str) -> Iterator[Table]:
    """Yield a table for each device, and for times that another cell contended."""
    for i, found in enumerate(timing_view(study, [group])):
        (model,) = found["models"]
        crowded = ["Another cell ran beside: do not compare"] if found["contended"] else []
        yield Table(
            f"{name}__times" + (f"-{i + 1}" if i else ""),
            f"{_title(group)}: times on {found['device']}",
            (
                f"{_title(group)}: mean times by stage and peak memory on {found['device']}, n "
                "seeds each",
                *crowded,
                *facts(group),
            ),
            ("method", "n", *found["stages"]),
            tuple((row["method"], str(row["n"]), *row["told"]) for row in model["rows"]),
        )


def _claims(results: StudyResults, group: Group) -> Iterator[Table]:
    judged = [j for j in results.judgements if j.model == group.label]
    shown = [j for j in judged if j.outcome != "not_run"]
    if not shown:
        return
    waiting = len(judged) - len(shown)
    yield Table(
        f"{file_name(group)}__claims",
        f"{_title(group)}: claims",
        (
            f"{_title(group)}: the claims of {results.study.name}; comparisons are corrected by "
            "Holm over the study",
            *([f"{count(waiting, 'claim')} not run"] if waiting else []),
            *facts(group),
        ),
        ("claim", "outcome", "evidence"),
        tuple((j.claim.sentence, WORDS[j.outcome], tight(j.sentence)) for j in shown),
        prose={"claim": 0.26, "evidence": 0.46},
    )


def _over_models(results: StudyResults) -> Iterator[Table]:
    """Yield the answers over models, which the page shows of real weights alone."""
    found = [one for one in results.over["over_models"] if one["weights"] == "real"]
    if not found:
        return
    real = [r for r in results.records.values() if r.kind == "real"]
    yield Table(
        "over_models",
        "Over models",
        (
            f"The claims of {results.study.name}, each asked once over all models that have its "
            "seeds; a family of its own under Holm's correction",
            *_facts(real),
        ),
        ("claim", "setting", "outcome", "evidence"),
        tuple((o["claim"], o["setting"], WORDS[o["outcome"]], o["sentence"]) for o in found),
        prose={"claim": 0.24, "setting": 0.12, "evidence": 0.36},
    )


# --- captions


def _title(group: Group) -> str:
    marks = f" ({', '.join(group.marks)})" if group.marks else ""
    return f"{group.document_name}{marks}"


def _side(study: Study) -> str:
    metric = study.ranked_by
    return f" ({metric.better} is better)" if metric.better else ""


def facts(group: Group) -> list[str]:
    """Return what a caption says of a group's records: weights, device, dates, versions."""
    stand_in = [f"Stand-in, not the model itself: {group.stand_in}"] if group.stand_in else []
    return [*stand_in, *_facts(list(group.records.values()))]


def _facts(records: Sequence[Record]) -> list[str]:
    known = dict(provenance_of(records))
    weights = ", ".join(sorted({_weights(record) for record in records}))
    versions = [f"{name} {known[name]}" for name in _VERSIONS if name in known]
    told = [f"Weights: {weights}"]
    told += [f"Device: {known['devices']}"] if "devices" in known else []
    told += [f"Measured {known['measured (UTC)']} UTC"] if "measured (UTC)" in known else []
    return [*told, *([f"Versions: {', '.join(versions)}"] if versions else [])]
