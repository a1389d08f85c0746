"""Write a session's reports: per study the source documents' files, over all studies one page."""

import csv
import importlib
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchsuite.printable import in_file_name
from benchsuite.records.files import fitting_name, write_whole
from benchsuite.records.record import Record
from benchsuite.reporting.coverage import coverage_markdown
from benchsuite.reporting.groups import groups_of
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.junit import to_junit
from benchsuite.reporting.over_models import mean_ranks
from benchsuite.reporting.page.items import FOLDER as ITEMS
from benchsuite.reporting.page.items import Asked, write_items
from benchsuite.reporting.page.model import record_href
from benchsuite.reporting.page.rendering import render_items, render_page
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.rows import rows_as_csv, rows_as_markdown
from benchsuite.reporting.status import status_rows
from benchsuite.reporting.summary import EXTRA, summarise, told_apart
from benchsuite.reporting.tables import to_csv, to_latex, to_markdown, to_yaml

logger = logging.getLogger("benchsuite")

OTHER_WEIGHTS = "other_weights"
"""The folder in a study's own that has files of other weights under the same models' names."""


class Reporter(Protocol):
    """What ``Study.reporter`` names: it writes a study's own files and returns their paths.

    ``records`` are the study's current good records in the grid's order, rehearsals and stand-ins
    included (``record.kind`` tells them apart); ``folder`` is ``reports/<study>`` and exists;
    ``columns(record)`` returns a record's per-item evidence. Called again after every session, it
    replaces what it wrote (``write_text``). What it raises is told in the report and stops nothing.
    """

    def __call__(  # noqa: D102
        self, records: Sequence[Record], folder: Path, columns: Columns
    ) -> Sequence[Path]: ...


def write_report(
    reports_dir: Path,
    studies: Sequence[StudyResults],
    *,
    columns: Columns | None = None,
    asked: Asked | None = None,
    figures: bool = False,
) -> Path:
    """Write ``<study>/summary_stats.json``, ``summary.*``, ``status.*`` and the page.

    Beside the page ``index.html``, whose path is returned, ``claims.xml`` is for continuous
    integration and ``coverage.md`` says what was measured, rehearsed or never run. Several
    results of one study (other parameters, other machines) go into one summary. Every file is
    written whole or not at all. ``columns`` reads per-item evidence for the studies' own
    reporters and the pages of items, ``asked`` what those items were (``Store.asked``);
    ``figures`` draws PNG and SVG too, which takes seconds.
    """
    if figures:
        for results in studies:
            _draw(results, reports_dir)
    summaries: dict[str, dict[str, Any]] = {}
    for results in studies:
        facts = (results.study, results.cells, results.records, results.judgements)
        summary = summarise(*facts, results.over)
        if results.standing is not None:
            summary[EXTRA]["plan"] = results.standing.as_dict()
        if results.apart:
            summary = told_apart(summary, results.apart)
        name = results.study.name
        summaries[name] = merge(summaries[name], summary) if name in summaries else summary
    for name, summary in summaries.items():
        folder = reports_dir / name
        text = json.dumps(summary, indent=2, allow_nan=False, default=str)
        write_text(folder / "summary_stats.json", text + "\n")
        write_text(folder / "summary.csv", to_csv(summary))
        write_text(folder / "summary.yaml", to_yaml(summary))
        write_text(folder / "summary.tex", to_latex(summary))
        write_text(folder / "summary.md", to_markdown(summary))
        own = [results for results in studies if results.study.name == name]
        write_text(folder / "records.csv", records_csv(own))
        status = status_rows(own)
        write_text(folder / "status.csv", rows_as_csv(status))
        write_text(folder / "status.md", rows_as_markdown(status))
        write_own_files(own, folder, columns or _no_columns)
        if columns is not None:
            _write_items(own, folder, columns, asked or _not_kept)
    write_text(reports_dir / "claims.xml", to_junit(studies))
    write_text(reports_dir / "coverage.md", coverage_markdown(studies))
    page = reports_dir / "index.html"
    write_text(page, render_page(studies, folder=reports_dir))
    return page


def records_csv(results: Sequence[StudyResults]) -> str:
    """Return one row per record: its cell, the study's metrics as stored, its weights, its file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    study = results[0].study
    metrics = [metric for metric in study.metrics if not metric.parts]
    heads = [metric.stored_heading for metric in metrics]
    writer.writerow(["cell", "model", "method", "seed", *heads, "kind", "device", "file"])
    seen = set()  # a record that several settings have is one
    for one in results:
        for cell in one.cells:
            record = one.records.get(cell.id)
            if record is not None and id(record) not in seen:
                seen.add(id(record))
                numbers = [record.value(metric.name) for metric in metrics]
                kind = ", ".join(filter(None, (record.kind, one.apart)))
                facts = [kind, record.device_name, record_href(record, one.links)]
                writer.writerow([cell.name, cell.model, cell.method, cell.seed, *numbers, *facts])
    return out.getvalue()


def write_own_files(results: Sequence[StudyResults], folder: Path, columns: Columns) -> None:
    """Let a study's reporter write into ``folder``; the first of the results notes what it did.

    Of other weights under the same models' names, and of checkpoints that were given, it writes
    into folders of their own: a reporter knows cells by their names, and would take one for
    another.
    """
    first = results[0]
    if not first.study.reporter:
        return
    # A record that several settings have is one.
    apart: dict[Path, dict[int, Record]] = {}
    for one in results:
        mine = (one.records[cell.id] for cell in one.cells if cell.id in one.records)
        apart.setdefault(place_of(one, folder), {}).update({id(record): record for record in mine})
    for place, records in apart.items():
        if records:
            _write_own(first, list(records.values()), place, folder.parent, columns)


def place_of(results: StudyResults, folder: Path) -> Path:
    """Return where files of results go whose names a study's other results have too."""
    slug = results.apart.replace(", ", " ").replace(" ", "_")
    return folder / OTHER_WEIGHTS / slug if slug else folder


def _write_own(
    first: StudyResults, records: Sequence[Record], place: Path, root: Path, columns: Columns
) -> None:
    module, _, function = first.study.reporter.partition(":")
    try:
        write: Reporter = getattr(importlib.import_module(module), function)
        place.mkdir(parents=True, exist_ok=True)
        written = write(records, place, columns)
        first.files += [Path(os.path.relpath(path, root)) for path in written]
    except Exception as error:
        logger.exception("the reporter %s failed", first.study.reporter)
        first.notes += [f"{first.study.reporter} wrote no files: {type(error).__name__}: {error}"]


def _write_items(
    results: Sequence[StudyResults], folder: Path, columns: Columns, asked: Asked
) -> None:
    rows = write_items(results, folder, columns, asked)
    if rows:
        write_text(folder / ITEMS / "index.html", render_items(results[0].study, rows))


def _draw(results: StudyResults, reports_dir: Path) -> None:
    from benchsuite.reporting.figures.critical import tells_apart
    from benchsuite.reporting.figures.ranks import write_critical_difference
    from benchsuite.reporting.figures.seeds import write_figures

    folder = place_of(results, reports_dir / results.study.name) / "figures"
    drawn = write_figures(results, folder)
    ranks = mean_ranks(results.study, groups_of(results.cells, results.records))
    for setting, found in ranks.items():
        difference = found.critical_difference
        if difference is None or not tells_apart(found.mean_ranks, found.p_value, difference):
            continue
        marks = in_file_name(setting)
        name = f"critical_difference__{marks}" if marks else "critical_difference"
        drawn += write_critical_difference(found, folder, fitting_name(name))
    results.drawn += [Path(os.path.relpath(path, reports_dir)) for path in drawn]


def _not_kept(record: Record, key: Mapping[str, Any]) -> None:
    return None


def _no_columns(record: Record) -> Mapping[str, Any]:
    return {}


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the union of two summaries of one study, in which no model stands twice."""
    extra: dict[str, Any] = dict(first[EXTRA])
    for key, value in second[EXTRA].items():
        if isinstance(value, list):
            extra[key] = [*extra[key], *(item for item in value if item not in extra[key])]
        elif isinstance(value, Mapping):
            extra[key] = {**extra[key], **value}
        elif key in ("n_records", "n_cells"):
            extra[key] += value
    models = {key: value for key, value in {**first, **second}.items() if key != EXTRA}
    return {**models, EXTRA: extra}


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode(), durable=False)
