"""Write the study's files: the G-NLL study's results, its summary, and its figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.records.record import Record
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.report import write_text
from benchsuite.reporting.rows import rows_as_csv
from benchsuite.reporting.settings import changed_in
from benchsuite.studies.uncertainty import analysis
from benchsuite.studies.uncertainty.questions import answer_questions
from benchsuite.studies.uncertainty.runs import PRIMARY, Run, contrast, runs_of, sized


def write(records: Sequence[Record], folder: Path, columns: Columns) -> list[Path]:
    """Write ``auroc_results.csv`` and ``.json``, ``analysis_summary.json`` and the figures.

    Returns the paths; none where no record is of real weights. Where hub models were run, they
    alone are analysed, and of several settings the one with most records.
    """
    runs = runs_of(records, columns)
    if not runs:
        return []
    rows = analysis.result_rows(runs)
    summary = summarise(runs, records)
    texts = {
        "auroc_results.csv": rows_as_csv(rows),
        "auroc_results.json": _json(rows),
        "analysis_summary.json": _json(summary),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    from benchsuite.studies.uncertainty import figures

    # The figures show sizes: a model whose size nobody knows any more stands in the tables alone.
    shown = sized(runs)
    drawn = figures.draw_all(shown, summary, folder / "figures") if shown else []
    return [*(folder / name for name in texts), *drawn]


def summarise(runs: Sequence[Run], records: Sequence[Record]) -> dict[str, Any]:
    """Return the G-NLL study's summary: overall, best, aggregates, questions, advanced analysis."""
    findings = answer_questions(runs)
    kinds = [record.kind for record in records]
    return {
        "population": "embedded models" if _embedded(runs) else "hub models",
        "n_runs": len(runs),
        "setting": changed_in(record for run in runs for record in run.records.values()),
        "left_out": {
            "rehearsals": kinds.count("rehearsal"),
            "stand_ins": kinds.count("stand_in"),
            "other_records": len(records) - sum(len(run.records) for run in runs),
        },
        "overall": overall(runs),
        "best": best(runs),
        "aggregates": analysis.aggregates(runs),
        "questions": [finding.as_dict() for finding in findings],
        "key_findings": [finding.sentence for finding in findings],
        "advanced": {
            "anova": analysis.variance(runs),
            "family_errors": analysis.family_errors(runs),
            "tokens": analysis.token_view(runs),
            "score_correlations": analysis.correlations(runs),
            "accuracy_and_auroc": analysis.accuracy_and_auroc(runs),
        },
    }


def overall(runs: Sequence[Run]) -> dict[str, Any]:
    """Return every score's AUROC over the runs: mean, extremes, and how many are undefined."""
    out = {}
    for method in dict.fromkeys(name for run in runs for name in run.records):
        values = [run.auroc(method) for run in runs if method in run.records]
        known = [value for value in values if value is not None]
        out[method] = {
            "n": len(known),
            "undefined": len(values) - len(known),
            "mean": sum(known) / len(known) if known else None,
            "min": min(known, default=None),
            "max": max(known, default=None),
        }
    return out


def best(runs: Sequence[Run]) -> dict[str, Any]:
    """Return, per data set, the run of the highest G-NLL AUROC and those not told from it.

    Not told: DeLong's test over the same questions, uncorrected, gives p of at least .05, or no
    answer; so the list is as short as it may be, and the winner was picked after looking.
    """
    out = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset and run.auroc() is not None]
        if not own:
            continue
        first, *others = sorted(own, key=lambda run: -(run.auroc() or 0))
        p_values = [contrast([(1, first), (-1, run)]).p_value for run in others]
        ties = [r for r, p in zip(others, p_values, strict=True) if p is None or p >= 0.05]
        out[dataset] = {
            "best": first.label,
            "auroc": first.auroc(),
            "ci95": first.records[PRIMARY].value("auroc_ci95"),
            "not_told_from_it": [run.label for run in ties],
        }
    return out


def _embedded(runs: Sequence[Run]) -> bool:
    return all(run.any_record.source.weights == "embedded" for run in runs)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
