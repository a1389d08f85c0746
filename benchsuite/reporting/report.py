"""Write a session's reports: per study the documents' files, over all studies one page."""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.reporting.groups import Results
from benchsuite.reporting.page import render_page
from benchsuite.reporting.summary import EXTRA, summarise
from benchsuite.reporting.tables import to_csv, to_latex, to_markdown


def write_report(reports_dir: Path, studies: Sequence[Results]) -> Path:
    """Write ``<study>/summary_stats.json``, ``.csv``, ``.tex``, ``.md`` and ``index.html``.

    Returns the page's path. Several results of one study (other parameters, other machines) go
    into one summary. Every file is written whole or not at all.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for results in studies:
        summary = summarise(results.study, results.cells, results.records, results.judgements)
        name = results.study.name
        summaries[name] = merge(summaries[name], summary) if name in summaries else summary
    for name, summary in summaries.items():
        folder = reports_dir / name
        text = json.dumps(summary, indent=2, allow_nan=False, default=str)
        write_whole(folder / "summary_stats.json", text + "\n")
        write_whole(folder / "summary.csv", to_csv(summary))
        write_whole(folder / "summary.tex", to_latex(summary))
        write_whole(folder / "summary.md", to_markdown(summary))
    page = reports_dir / "index.html"
    write_whole(page, render_page(studies))
    return page


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the union of two summaries of one study; of equal models the second one's."""
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


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{os.getpid()}-{uuid.uuid4().hex}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
