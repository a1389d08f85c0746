"""What was measured, what was only rehearsed, what never ran: model by method, from the records."""

from collections.abc import Sequence

from benchsuite import catalog
from benchsuite.records.record import Record
from benchsuite.reporting.results import StudyResults

# The best thing that can be said of a model and method comes first.
MARKS = {
    "real": "measured",
    "checkpoint": "a given checkpoint",
    "stand_in": "stand-in",
    "rehearsal": "rehearsed",
    "unstated": "weights not stated",
    "": "never run",
}


def coverage(results: Sequence[StudyResults]) -> dict[str, dict[str, dict[str, str]]]:
    """Return study -> model -> method -> what can be said of it, over each study's whole grid.

    *measured* takes a passed record with the model's own weights, on whatever machine and with
    whatever parameters; a number in brackets counts the seeds. A record that does not say which
    weights it measured proves nothing of a model that has to be fetched.
    """
    table: dict[str, dict[str, dict[str, str]]] = {}
    for name in dict.fromkeys(one.study.name for one in results):
        mine = [one for one in results if one.study.name == name]
        seen: dict[tuple[str, str], dict[str, set[int]]] = {}
        for record in (record for one in mine for record in one.records.values()):
            kinds = seen.setdefault((record.cell.model, record.cell.method), {})
            kinds.setdefault(_kind(record), set()).add(record.cell.seed)
        declared = mine[0].study.axes
        table[name] = {
            model: {m: _said(seen.get((model, m), {})) for m in declared["method"]}
            for model in declared["model"]
        }
    return table


def _kind(record: Record) -> str:
    model = record.cell.model
    if record.source.weights == "checkpoint" and record.kind == "real":
        return "checkpoint"
    if record.source.weights not in (None, "unknown"):
        return record.kind
    embedded = model in catalog.MODELS and catalog.model(model).embedded
    return record.kind if embedded else "unstated"


def _said(kinds: dict[str, set[int]]) -> str:
    best = next((kind for kind in MARKS if kind in kinds), "")
    return f"{MARKS[best]} ({len(kinds[best])})" if best else MARKS[best]


def coverage_markdown(results: Sequence[StudyResults]) -> str:
    """Return the coverage as Markdown, a table per study with the methods as rows."""
    lines: list[str] = []
    for name, models in coverage(results).items():
        lines += [f"## {name}", "", f"| method | {' | '.join(models)} |"]
        lines += ["|---" * (1 + len(models)) + "|"]
        methods = next(iter(models.values()), {})
        for method in methods:
            cells = (models[model][method] for model in models)
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)
