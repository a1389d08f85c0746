"""The data card: what an export holds, of what, in which units, and whose the texts are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite import __version__, catalog
from benchsuite.printable import count, printable
from benchsuite.reporting.exporting.data import ITEMS, RECORDS, Data
from benchsuite.reporting.exporting.tables import UNSTATED
from benchsuite.reporting.exporting.texts import markdown_text
from benchsuite.reporting.frame_columns import ITEMS as ITEM_COLUMNS
from benchsuite.reporting.frame_columns import RECORDS as RECORD_COLUMNS
from benchsuite.reporting.frame_columns import Column, described
from benchsuite.reporting.page.rendering import provenance_of
from benchsuite.reporting.results import StudyResults
from benchsuite.study import names, study

CARD = "README.md"
_OWN_TEXT = (
    "docstrings and source of SymPy 1.14.0 and NetworkX 3.6.1, BSD-3-Clause with parts under MIT; "
    "`benchsuite/embedded/documents/LICENSES.txt` has the notices to pass on"
)
_WEIGHTS = {
    "embedded": "the small models that benchsuite ships",
    "hub": "the model's own from the hub",
    "local": "the model's own from a folder",
    "dequantized": "read from a GGUF file whose tensors were quantized",
    "random": "random at true shapes: times and memory are real, quality is not and is not shown",
    "checkpoint": "a model that was given with --checkpoint",
    "unknown": "a foreign file that does not say",
    UNSTATED: "the record does not say",
}


def data_card(
    results: Sequence[StudyResults],
    data: Data,
    files: Mapping[str, tuple[int, str]],
    notes: Sequence[str],
) -> str:
    """Return the card; ``files`` are the export's other files: path -> (bytes, SHA-256).

    ``notes`` tell what was left out of the tables and why.
    """
    records = [r for one in results for r in one.records.values()]
    made = f"Exported by benchsuite {__version__} from stored records: nothing was measured anew."
    lines = ["# Data card", "", made, "", "## What was measured, and on what", ""]
    for one in {r.study.name: r.study for r in results}.values():
        lines += [f"- **{one.name}**: {one.question}"]
    lines += [f"- {what}: {markdown_text(value)}" for what, value in provenance_of(records)]
    lines += ["", "## Counts", "", *_counts(data), ""]
    lines += [
        "Kinds of weights, which no table or figure of the report's page mixes. Files of other"
    ]
    lines += ["weights under the same models' names are in `other_weights`.", ""]
    kinds = sorted(set(data.counts["weights"]))
    lines += [f"- {kind}: {_WEIGHTS.get(kind, 'as the record says')}" for kind in kinds]
    lines += ["", "## Texts and licences", "", *_licences(results, data), "", "## Files", ""]
    lines += _table(("file", "bytes", "SHA-256", "what it holds"), _files(files))
    lines += ["", "`sha256sum -c SHA256SUMS` checks them all, this card too.", ""]
    lines += ["LaTeX needs `\\usepackage{booktabs,longtable}`. The tables say what the report's"]
    lines += ["page says, as it says it; the CSV of methods has its numbers unrounded beside."]
    lines += ["", f"## Columns of {RECORDS}", "", *_columns(data, data.records, RECORD_COLUMNS)]
    if data.n_items:
        lines += ["", f"## Columns of {ITEMS}", "", *_columns(data, data.items, ITEM_COLUMNS), ""]
        lines += ["`record_sha256` joins both files. An item has nothing in the others' columns."]
    untold = [text for text in data.unreadable if not any(text in note for note in notes)]
    if told := [*notes, *untold]:
        lines += ["", "## Left out", "", *(f"- {markdown_text(text)}" for text in told)]
    return "\n".join([*lines, ""])


def _counts(data: Data) -> list[str]:
    records, items = count(data.n_records, "record"), count(data.n_items, "item")
    keys = zip(*(data.counts[name] for name in ("study", "weights", "outcome")), strict=True)
    rows = [(*key, str(n)) for key, n in sorted(Counter(keys).items())]
    lines = [f"{records}, failures and reruns included; {items}.", ""]
    lines += _table(("study", "weights", "outcome", "records"), rows)
    if data.items_by:
        numbers = [(*kind, str(n)) for kind, n in data.items_by]
        lines += ["", *_table(("study", "items", "number"), numbers)]
    return lines


def _columns(data: Data, schema: Any, known: Sequence[Column]) -> list[str]:
    studies = [study(name) for name in names() if name in data.counts["study"]]
    columns = described(schema.names, known, studies)
    rows = [
        (_code(column.name), str(kind), column.unit, column.meaning)
        for column, kind in zip(columns, schema.types, strict=True)
    ]
    return _table(("column", "type", "unit", "meaning"), rows)


def _licences(results: Sequence[StudyResults], data: Data) -> list[str]:
    """Return whose the texts are that the records were measured on, and where they are shown."""
    told = dict(sorted({pair for one in results for pair in _read_by(one)}))
    lines = [f"- {_code(name)}: {licence}" for name, licence in told.items()]
    shown = (
        f"`{ITEMS}` holds answers, and of some studies the questions: these are parts of the texts "
        "above, under their licences."
    )
    own = "benchsuite's licence is that of its code, not of this data."
    return [
        *(lines or ["- The records name no text."]),
        "",
        f"{shown} {own}" if data.n_items else own,
    ]


def _read_by(results: StudyResults) -> Iterator[tuple[str, str]]:
    declared = results.study
    cells = [cell for cell in results.cells if cell.id in results.records]
    for cell in cells:
        point = {**cell.axes, **cell.parameters}
        for name in declared.reading("corpus"):
            if point.get(name):
                yield _whose(str(point[name]), catalog.CORPORA, _OWN_TEXT)
        for name in declared.reading("task"):
            if point.get(name):
                own = "made by benchsuite, under its licence (Apache-2.0)"
                yield _whose(declared.task_of(cell, name), catalog.TASKS, own)


def _whose(name: str, table: Mapping[str, Any], own: str) -> tuple[str, str]:
    entry = table.get(name)
    if entry is None:
        return name, "not in this catalogue: whoever registered it knows its licence"
    if entry.embedded:
        return name, own
    place = f"https://huggingface.co/datasets/{entry.hub_id}" if entry.hub_id else "its owner"
    return name, f"its owner's licence, which is not copied here: {place}"


def _files(files: Mapping[str, tuple[int, str]]) -> list[tuple[str, ...]]:
    told = {
        RECORDS: "one row a record",
        ITEMS: "one row an item: question, chunk of text, token",
        ".tex": "a table for LaTeX",
        ".md": "a table",
        ".csv": "a table for programs",
        ".svg": "a figure",
    }
    return [
        (_code(name), str(size), _code(digest), told.get(name, told.get(Path(name).suffix, "")))
        for name, (size, digest) in files.items()
    ]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return [*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)]


def _code(text: str) -> str:
    return "`{}`".format(text.replace("`", "'"))


def _cell(text: str) -> str:
    return printable(text.replace("\n", " ").replace("|", "\\|"))
