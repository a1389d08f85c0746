"""The report that people open: one self-contained HTML page over all studies."""

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.printable import count, printable
from benchsuite.records.record import Record
from benchsuite.reporting import findings
from benchsuite.reporting.commands import rerun_command
from benchsuite.reporting.devices import mixed_devices
from benchsuite.reporting.figures import critical
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.page import study_files
from benchsuite.reporting.page.model import MOST_DOTS, model_view, place_of, title
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.summary import null_results, timings
from benchsuite.reporting.text import OUTCOMES, cells_by_id
from benchsuite.reporting.unmeasured import unmeasured
from benchsuite.reporting.unread import unread
from benchsuite.reporting.waiting import deciding, waiting
from benchsuite.study import Study
from benchsuite.study.cell import Cell

MOST_CELLS = 40
MOST_TOLD = 12
# So many violated claims are told at once; more of them would push the tables off the page.
MOST_OPEN = 3
WORDS = {
    "held": "held",
    "violated": "violated",
    "inconclusive": "inconclusive",
    "not_run": "not run",
}


def render_page(
    studies: Sequence[StudyResults],
    *,
    folder: Path | None = None,
    now: datetime.datetime | None = None,
) -> str:
    """Return the page. Links to record files are relative to the reports folder.

    ``folder`` is the reports folder: studies' own CSV files there are shown as tables, their SVG
    files as figures.
    """
    moment = now or datetime.datetime.now(datetime.UTC)
    room = study_files.Room()
    shown = [study_view(found) | study_files.view(found, folder, room) for found in studies]
    counts = {o: sum(s["counts"][o] for s in shown) for o in OUTCOMES}
    names = [s["name"] for s in shown]
    for view in shown:  # of several machines: the same study, asked in different ways
        view["apart"] = view["marks"] if names.count(view["name"]) > 1 else []
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            studies=shown,
            counts=counts,
            words=WORDS,
            outcomes=OUTCOMES,
            written=moment.strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def render_items(study: Study, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a study's page of items: its cells, beneath which a script shows the chosen one's."""
    template = templates().get_template("items.html.j2")
    return template.render(study=study.name, original=study.original, rows=rows)


def study_view(results: StudyResults) -> dict[str, Any]:
    """Return what the template shows of one study: strings and numbers only."""
    groups = groups_of(results.cells, results.records)
    by_label = {group.label: group for group in groups}
    stand_ins = {group.label for group in groups if group.kind == "stand_in"}
    judged = [j for j in results.judgements if j.model not in stand_ins]
    aside = [j for j in results.judgements if j.model in stand_ins]
    counts = {o: sum(j.outcome == o for j in judged) for o in OUTCOMES}
    claims = claims_view(results, judged, by_label)
    provenance = provenance_of(list(results.records.values()))
    return {
        "name": results.study.name,
        "marks": [*marks_of_all(groups), *filter(None, [results.apart])],
        "question": results.study.question,
        "metric": results.study.ranked_by.heading,
        "counts": counts,
        "found": findings.found(results.study, judged),
        "how": findings.measured(dict(provenance)),
        "claims": [row for row in claims if not row["waiting"]],
        "waiting_claims": [row for row in claims if row["waiting"]],
        "stand_in_claims": claims_view(results, aside, by_label),
        "over": results.over,
        "ranks": list(filter(None, map(critical.view, results.over["ranks"]))),
        "nulls": null_results(results.study, groups, judged),
        "models": [model_view(results, g) for g in groups if g.kind == "real" and g.records],
        "stand_ins": [model_view(results, g) for g in groups if g.kind == "stand_in"],
        "rehearsals": timing_view(results.study, [g for g in groups if g.kind == "rehearsal"]),
        "timings": timing_view(results.study, [g for g in groups if g.kind == "real"]),
        "absent": absent_view(results),
        "provenance": provenance,
        "standing": results.standing and results.standing.as_dict(),
        "notes": [
            *results.notes,
            *unmeasured(results),
            *unread(results),
            *mixed_devices(results),
        ],
        "conflicts": results.conflicts,
        "cells": f"{len(results.records)} of {count(len(results.cells), 'cell')}",
        "has_items": bool(results.item_names),
        "compact": len(results.records) > MOST_DOTS,
    }


def marks_of_all(groups: Sequence[Group]) -> list[str]:
    """Return what all groups with records have in common against the study's own grid."""
    known = [g for g in groups if g.records]
    rehearsed = all(g.kind == "rehearsal" for g in known)
    shared = [m for m in known[0].marks if all(m in g.marks for g in known)] if known else []
    return [*(["rehearsal"] if known and rehearsed else []), *shared]


def claims_view(
    results: StudyResults, judgements: Sequence[Any], groups: Mapping[str, Group]
) -> list[dict[str, Any]]:
    """Return the claims in the study's order, each with its outcome on every model."""
    claims: dict[str, dict[str, Any]] = {}
    titles = {name: title(group) for name, group in groups.items()}
    cells = cells_by_id(results.cells)
    for judgement in judgements:
        claim = judgement.claim
        row = claims.setdefault(
            claim.sentence, {"sentence": claim.sentence, "control": claim.control, "models": []}
        )
        row["models"].append(
            {
                "model": judgement.model,
                "title": titles.get(judgement.model, {"model": judgement.model, "marks": []}),
                "place": place_of(judgement.model),
                "outcome": judgement.outcome,
                "sentence": tight(judgement.sentence),
                "judgement": judgement,
            }
        )
    for row in claims.values():
        outcomes = [m["outcome"] for m in row["models"]]
        row["counts"] = [(o, outcomes.count(o)) for o in OUTCOMES if o in outcomes]
        row["open"] = "violated" in outcomes
        row["waiting"] = set(outcomes) == {"not_run"}
        absent = [m for m in row["models"] if m["outcome"] == "not_run"]
        row["not_run"] = [
            m | {"waits": waiting(results, m["judgement"], cells)} for m in absent[:MOST_TOLD]
        ]
        row["more_not_run"] = max(0, len(absent) - MOST_TOLD)
        told = [m for o in OUTCOMES for m in row["models"] if m["outcome"] == o != "not_run"]
        row["told"] = [
            m | {"by": deciding(results, m["judgement"], groups.get(m["model"]))}
            for m in told[:MOST_TOLD]
        ]
        row["more"] = max(0, len(told) - MOST_TOLD)
    if sum(row["open"] for row in claims.values()) > MOST_OPEN:
        for row in claims.values():
            row["open"] = False
    order = {outcome: i for i, outcome in enumerate(OUTCOMES)}
    return sorted(claims.values(), key=lambda row: min(order[o] for o, _ in row["counts"]))


def tight(text: str) -> str:
    """Keep ``p = 0.05`` and ``5.72 ± 0.08`` on one line."""
    return re.sub(r"(?<=\S) ([=<±]) (?=\S)", "\u00a0\\1\u00a0", text)


def timing_view(study: Study, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return timings by device: one table per device and contention, never compared across.

    A table has only the stages that one of its rows went through.
    """
    titles = {group.key: title(group) for group in groups}
    tables: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in timings(study, groups):
        tables.setdefault((row["device"], row["contended"]), []).append(row)
    return [
        {"device": device, "contended": crowded, **_times_of(study, rows, titles)}
        for (device, crowded), rows in sorted(tables.items())
    ]


def _times_of(
    study: Study, rows: Sequence[Mapping[str, Any]], titles: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    keys = {stage: f"{stage}_time_sec_mean" for stage in (*study.making, "total")}
    stages = [stage for stage, key in keys.items() if any(row[key] is not None for row in rows)]
    # The sum of the making stages alone: evaluation is not in it.
    names = ["making" if stage == "total" and study.making else stage for stage in stages]
    models: dict[str, dict[str, Any]] = {}
    for row in rows:
        told = [seconds(row[keys[stage]]) for stage in stages]
        told.append(gibibytes(row["peak_memory_bytes"]))
        model = models.setdefault(row["model"], {"title": titles[row["model"]], "rows": []})
        model["rows"].append({"method": row["method"], "n": row["n"], "told": told})
    return {"stages": [*names, "peak memory"], "models": list(models.values())}


def absent_view(results: StudyResults) -> list[dict[str, Any]]:
    """Return missing, failed and stale cells, each kind with the command that reruns it."""
    cells = cells_by_id(results.cells)
    found = []
    stale = results.stale if isinstance(results.stale, Mapping) else dict.fromkeys(results.stale)
    kinds: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("failed", results.failed),
        ("stale", stale),
        ("missing", dict.fromkeys(results.missing)),
    )
    for word, table in kinds:
        known = [cells[i] for i in table if i in cells]
        if not known:
            continue
        found.append(
            {
                "word": word,
                "n": len(known),
                **_alike(known, table),
                "command": rerun_command(
                    results.study, known, results.options, results.where, grid=results.cells
                ),
            }
        )
    return found


def _alike(cells: Sequence[Cell], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells with their reasons; seeds that fail alike stand behind the first."""
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        why = why_absent(table[cell.id])
        place = (*(str(v) for k, v in cell.axes.items() if k != "seed"), why.replace(cell.id, ""))
        rows.setdefault(place if why else (cell.id,), []).append({"id": cell.id, "why": why})
    shown = list(rows.values())[:MOST_CELLS]
    return {
        "cells": [row[0] | {"alike": len(row) - 1} for row in shown],
        "more": len(cells) - sum(map(len, shown)),
    }


def why_absent(found: Any) -> str:
    """Return what a failed record or the reasons of a stale one say."""
    if isinstance(found, Record):
        return f"{found.failure.stage}: {found.failure.message}" if found.failure else "no message"
    if isinstance(found, str):
        return found
    return "; ".join(map(str, found)) if found else ""


def provenance_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return (what, the distinct values over some records)."""
    environments = [r.environment for r in records]
    facts = {
        "devices": {r.device_name for r in records},
        "weights": {r.source.weights for r in records if r.source.weights},
        "stand-ins": {r.source.stand_in for r in records if r.source.stand_in},
    }
    for name in ("benchsuite", "torch", "transformers", "python", "platform", "driver", "threads"):
        facts[name] = {str(e[name]) for e in environments if e.get(name) not in (None, "")}
    dates = sorted(r.started_at for r in records if r.started_at)
    if dates:
        first, last = dates[0][:16].replace("T", " "), dates[-1][:16].replace("T", " ")
        facts["measured (UTC)"] = {first if first == last else f"{first} to {last}"}
    return [(what, ", ".join(sorted(values))) for what, values in facts.items() if values]


def seconds(value: float | None) -> str:
    """Return a duration to three digits."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:.0f} s"
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def gibibytes(value: float | None) -> str:
    """Return an amount of memory in MiB or GiB."""
    if value is None:
        return "–"
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _as_text(value: Any) -> Any:
    """Return what the page shows of a text: control characters are spelled out."""
    return printable(value) if type(value) is str else value


@functools.cache
def templates() -> Any:
    """Return the environment of the pages' templates, which escapes what it shows."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchsuite.reporting"),
        autoescape=True,
        finalize=_as_text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment
