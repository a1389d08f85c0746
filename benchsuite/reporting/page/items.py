"""A cell's items as small scripts that a page loads on demand, from a folder and without a server.

::

    reports/<study>/items/index.html       the cells; beneath them, the items of the one chosen
                          <name>.js        one cell's answers and its chunks' values
                          asked-<name>.js  what they were asked, once for all cells asked the same
                          said-<name>.js   the answers token by token, once for all with the same

A page that is opened from a disk may load a script and nothing else. A file's name is a digest of
its cell and of what that measured: what is there is not written again.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.records.asked import set_key, text_key
from benchsuite.records.files import write_whole
from benchsuite.records.fingerprint import digest
from benchsuite.records.record import Record
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.judging import Columns
from benchsuite.reporting.results import StudyResults
from benchsuite.study import Study

Asked = Callable[[Record, Mapping[str, Any]], Any]

MOST_CELLS = 3000
"""Of a study, beyond which its items are left in their Parquet files."""

FOLDER = "items"
FORMAT = 3
"""Of the scripts: those of another one are not taken for today's."""

_NAME = 20  # letters of a digest that make a name
_UNREAD = {"-1": "(not read)", "nan": "(no number)", "": "(nothing)"}


def write_items(
    results: Sequence[StudyResults], folder: Path, columns: Columns, asked: Asked
) -> list[dict[str, Any]]:
    """Write the scripts of a study's cells that have items; return what its page of items lists.

    ``folder`` is ``reports/<study>``. Each row has the cell, ``name`` (of its script), ``original``
    (that of the original's, or nothing) and the group's title; rehearsals are left out.
    ``item_names`` of the results holds the names by cell id.
    """
    known = [r for one in results for r in one.records.values() if _has_items(r)]
    if not known or len(known) > MOST_CELLS:
        return []
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for one in results:
        for group in groups_of(one.cells, one.records):
            records = {} if group.kind == "rehearsal" else group.records
            for cell_id, record in records.items():
                if _has_items(record) and _written(one.study, record, place, columns, asked):
                    one.item_names[cell_id] = name_of(record)
                    rows.append(_row(one, group, record))
    return rows


def name_of(record: Record) -> str:
    """Return the name of a cell's script, which is also the cell's address on the page."""
    return digest([FORMAT, record.fingerprint.value, record.results_sha256])[:_NAME]


def _has_items(record: Record) -> bool:
    names = record.items.columns if record.items else ()
    return bool(record.results_sha256) and bool({"correct", "chunk_kl"} & set(names))


def _row(results: StudyResults, group: Group, record: Record) -> dict[str, Any]:
    originals = group.records_of(results.study.original) if results.study.original else {}
    other = originals.get(record.cell.seed) or next(iter(originals.values()), None)
    apart = other is not None and other is not record and _has_items(other)
    return {
        "model": group.document_name,
        "marks": group.marks,
        "kind": group.kind,
        "method": record.cell.method,
        "seed": record.cell.seed,
        "name": name_of(record),
        "original": name_of(other) if other is not None and apart else "",
        "file": record.items.file if record.items else "",
    }


def _written(study: Study, record: Record, folder: Path, columns: Columns, asked: Asked) -> bool:
    """Write a cell's script and that of what it was asked, unless both are there."""
    path = folder / f"{name_of(record)}.js"
    if path.is_file():
        return True
    found = {name: list(_plain(column)) for name, column in columns(record).items()}
    if not found:
        return False
    frame = _frame(record, found, asked)
    options = frame.pop("options")
    asked_as = f"asked-{digest([frame['ids'], frame['chunks'], frame['prompts']])[:_NAME]}"
    write_script(folder / f"{asked_as}.js", asked_as, frame)
    answers = _aligned(found, len(options), "answer", "prediction")
    cell = {
        "asked": asked_as,
        "answers": [_answer(a, o) for a, o in zip(answers, options, strict=True)],
        "right": "".join("01"[bool(right)] for right in found.get("correct", [])),
        "unsure": [_short(value) for value in found.get(_unsure(study), [])],
        "change": [_short(value) for value in found.get("chunk_kl", [])],
        "passages": _passages(found.get("chunk_passage", [])),
        "nll": [_short(value) for value in found.get("chunk_nll", [])],
        "said": _said(found, len(options), folder),
    }
    write_script(path, path.stem, {name: value for name, value in cell.items() if value})
    return True


def _said(found: Mapping[str, list[Any]], n: int, folder: Path) -> str:
    """Write the answers' tokens with the nats of each; return the script's name, or nothing.

    Cells that score the same answers share it.
    """
    tokens = found.get("tokens", [])
    if len(tokens) != n or not n:
        return ""
    name = f"said-{digest([FORMAT, tokens])[:_NAME]}"
    path = folder / f"{name}.js"
    if not path.is_file():
        try:
            told = [[[piece, _short(-value)] for piece, value in json.loads(one)] for one in tokens]
        except (ValueError, TypeError):  # a column of that name in a study of somebody's own
            return ""
        write_script(path, name, {"tokens": told})
    return name


def _passages(told: Sequence[Any]) -> dict[int, list[list[Any]]]:
    """Return by chunk the tokens of the passages that are kept, each with its nats."""
    try:
        kept = {i: json.loads(passage) for i, passage in enumerate(told) if passage}
        return {i: [[t, _short(nats)] for t, nats in pairs] for i, pairs in kept.items()}
    except (ValueError, TypeError):  # a column of that name in a study of somebody's own
        return {}


def _unsure(study: Study) -> str:
    """Return the column that says how unsure each answer was, if a metric reads one."""
    return next((metric.ranking[1] for metric in study.metrics if metric.ranking), "")


def _aligned(found: Mapping[str, list[Any]], n: int, *names: str) -> list[Any]:
    """Return the first of some columns that has a value for each of ``n`` items, or blanks."""
    columns = (found[name] for name in names if name in found and len(found[name]) == n)
    return next(columns, [""] * n)


def write_script(path: Path, name: str, value: Mapping[str, Any]) -> None:
    """Write a script that hands a json-able value over under a name."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    write_whole(path, f"benchsuiteItems({json.dumps(name)},{text})\n".encode(), durable=False)


def _frame(record: Record, found: Mapping[str, list[Any]], asked: Asked) -> dict[str, Any]:
    """Return what all cells with the same items share: ids, prompts, right answers, texts."""
    n = len(found.get("correct", ()))
    ids = list(map(str, _aligned(found, n, "question_id", "question")))
    sets = list(map(str, _aligned(found, n, "question_set")))
    kept = _kept_questions(record, asked)
    if len(kept) == 1 and not any(sets):  # a cell that asks one set does not name it item by item
        sets = [*kept] * n
    here = [kept.get(s, {}).get("questions", {}).get(i, {}) for s, i in zip(sets, ids, strict=True)]
    own = _aligned(found, n, "question") if "question_id" in found else None
    prompts = [q.get("prompt", "") for q in here] if own is None else own
    gold = [q.get("gold", "") for q in here]
    if "expected" in found:
        gold = _aligned(found, n, "expected")
    chunks = found.get("chunk", [])
    texts = (asked(record, text_key(chunks)) or {}) if chunks else {}
    return {
        "ids": ids,
        "sets": sets,
        "prompts": prompts,
        "gold": list(map(str, gold)),
        "options": [q.get("options", []) for q in here],
        "examples": {name: one["examples"] for name, one in kept.items() if one.get("examples")},
        "chunks": chunks,
        "texts": [str(texts.get(name, "")) for name in chunks],
    }


def _kept_questions(record: Record, asked: Asked) -> dict[str, Any]:
    told = record.value("question_sets")
    sets = told.items() if isinstance(told, Mapping) else ()
    kept = {name: asked(record, set_key(one)) for name, one in sets if isinstance(one, Mapping)}
    return {name: one for name, one in kept.items() if isinstance(one, Mapping)}


def _answer(answer: Any, options: Sequence[str]) -> str:
    """Return an answer as a reader knows it: of a choice the option's text, ``79`` for 79.0."""
    text = str(answer).strip()
    if options and text.isdigit() and int(text) < len(options):
        return options[int(text)]
    return _UNREAD.get(text, text.removesuffix(".0"))


def _plain(column: Any) -> Any:
    return column.tolist() if hasattr(column, "tolist") else column


def _short(value: Any) -> float | None:
    """Return a number with five digits, None for what is none or has no form in JSON."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")
