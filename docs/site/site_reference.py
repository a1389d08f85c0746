"""The reference: pages that are made of what the program itself declares, at every build.

Options, commands, fixtures, parameters, a record's fields, and the public API. What is written by
hand here is what the parts of a record hold (``site_fields``), which no declaration says.
"""

import contextlib
import dataclasses
import inspect
import io
import os
import re
import sys
from collections.abc import Iterable
from typing import Any

from site_api import api_pages
from site_fields import FIELDS
from site_fixtures import fixtures_page
from site_links import ROOT

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchsuite.commands.main import COMMANDS, GROUPS, OF_PYTEST, main
from benchsuite.harness.options import OPTIONS
from benchsuite.records import record as records
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.reporting.frame_columns import ITEMS, RECORDS, as_markdown, unit_of
from benchsuite.study import Column, Metric, names, study
from benchsuite.study.table import parameter_rows

MADE = "*This page is made from the code at every build.*"
PARTS: tuple[Any, ...] = (
    *(records.Record, records.CellFacts, Fingerprint, records.Source, records.Times),
    *(records.Items, records.Failure),
)


_SELECTS = (
    "FILE are the benchmarks: without one those of this folder or, if it has none, the shipped. "
    "`-k`, `-m` and the [options of pytest](options.md) select cells and set what holds for them."
)


def reference_pages() -> dict[str, str]:
    """Return every page of the reference by its place on the site."""
    return {
        "reference/options.md": _options(),
        "reference/commands.md": _commands(),
        "reference/fixtures.md": fixtures_page(),
        "reference/parameters.md": _parameters(),
        "reference/records.md": _records(),
        **api_pages(),
    }


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table in Markdown."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in lines)


def _cell(text: Any) -> str:
    """Return the text of a cell; a bar within code ends none."""
    parts = re.split(r"(`[^`]*`)", str(text).replace("\n", " "))
    return "".join(p if p.startswith("`") else p.replace("|", "\\|") for p in parts)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", MADE, *parts)) + "\n"


def _options() -> str:
    rows = []
    for option in OPTIONS:
        given = "" if option.argparse.get("action") == "store_const" else " ..."
        if option.argparse.get("nargs") == "?":
            given = " [...]"
        often = "; may be repeated" if option.argparse.get("action") == "append" else ""
        default = "" if option.default in ("", [], False) else f"`{option.default}`"
        rows.append([f"`{option.flag}{given}`", option.help + often, default])
    said = (
        "pytest has these in a project that asks for benchsuite. Each is a setting of the ini file "
        "too, by its name with underscores: `benchsuite_reports_dir` is the default of "
        "`--reports-dir`. [Running](../running.md) explains them. `-k`, `-m`, `-n`, `-x` and "
        "`--lf` are pytest's own."
    )
    return _page("Options of pytest", said, table(["option", "meaning", "default"], rows))


def _commands() -> str:
    parts = ["The exit status is 4 where nothing was done, with a paragraph that says why."]
    placed = [name for listed in GROUPS.values() for name in listed]
    further = {"Further": [name for name in COMMANDS if name not in placed]}
    for heading, listed in (GROUPS | further).items():
        if listed:
            parts.append(f"## {heading}")
        for name in listed:
            parts += [f"### benchsuite {name}", f"```text\n{_help(name)}\n```"]
            if name in OF_PYTEST:
                parts.append(_SELECTS)
    return _page("Commands", *parts)


def _help(command: str) -> str:
    """Return what a command says of itself, at a width that does not hang on the terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "96"
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            main([command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    text = said.getvalue()
    if command in OF_PYTEST:  # what it selects cells by is the same for all of these
        text = text.partition("\npositional arguments:")[0]
    return text.strip()


def _parameters() -> str:
    parts = [
        "`--set STUDY.PARAMETER=VALUE` changes one; it enters the fingerprint and the file name. "
        "`benchsuite list -k ...` prints what the selected cells will run. Where a model is "
        "embedded the second value holds."
    ]
    for name in names():
        rows = [[f"`{row[0]}`", *row[1:]] for row in parameter_rows(study(name))]
        head = ["parameter", "hub models", "embedded", "meaning"]
        parts += [f"## {name}", study(name).question, table(head, rows)]
    return _page("Parameters", *parts)


def _records() -> str:
    parts = [
        "`benchsuite.load_records()` has one row a record and these as columns with dots: "
        "`cell.axes.seed`, `timings.quant`. `benchsuite.records.reading.read_file` returns one "
        "record typed, as below. [Records](../records.md) says where they lie and what makes one "
        "stale.",
        "## The record",
    ]
    for part in PARTS:
        parts += [f"### {part.__name__}", inspect.cleandoc(part.__doc__ or ""), _fields(part)]
    parts += ["## Columns of `load_records`", as_markdown(RECORDS)]
    parts += ["## Columns of `load_items`", as_markdown(ITEMS)]
    for name in names():
        if study(name).columns:
            parts += [f"## Values and items of {name}", as_markdown(_values(name))]
    return _page("Fields of a record", *parts)


def _fields(part: Any) -> str:
    rows = []
    for field in dataclasses.fields(part):
        kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
        short = kind.replace("collections.abc.", "").replace("typing.", "")
        short = short.replace("benchsuite.records.record.", "").replace(
            "benchsuite.records.fingerprint.", ""
        )
        rows.append([f"`{field.name}`", f"`{short}`", FIELDS[part.__name__][field.name]])
    return table(["field", "type", "what it holds, and its unit"], rows)


def _values(name: str) -> list[Column]:
    """Return what a study's records and items hold: its metrics first."""
    declared = study(name)
    metrics = [Column(m.name, unit_of(m), _read(m)) for m in declared.metrics]
    named = {column.name for column in metrics}
    return [*metrics, *(column for column in declared.columns if column.name not in named)]


def _read(metric: Metric) -> str:
    """Return what the study declares of a metric."""
    parts = [f"{metric.better} is better"] if metric.better else []
    parts.append(f"{metric.margin}{'' if '%' in metric.margin else ' ' + metric.unit} matters")
    if metric.items:
        parts.append(f"of the items' `{metric.items[0]}`")
    return f"*metric* {metric.label or metric.name}: {', '.join(parts)}"
