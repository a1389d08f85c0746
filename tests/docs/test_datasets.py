"""The page of data sets has every set's columns as the code reads them."""

import dataclasses
from pathlib import Path

from benchsuite import catalog
from benchsuite.corpora import files, public
from benchsuite.corpora.tasks import SCHEMAS

PAGE = (Path(__file__).parents[2] / "docs/datasets.md").read_text()


def _code(names):
    return ", ".join(f"`{name}`" for name in names)


def _row(*cells):
    return f"| {' | '.join(cells)} |"


def _table(beginning):
    """Return the rows of the table whose header begins so."""
    below = PAGE[PAGE.index(f"\n| {beginning} |") :].strip().split("\n\n", 1)[0]
    return below.splitlines()[2:]


def test_the_table_of_sets_is_the_code_s():
    expected = []
    for name, entry in catalog.TASKS.items():
        if not entry.embedded:
            place = f"{entry.hub_id}, {entry.config}" if entry.config else entry.hub_id
            columns = _code(public.ADAPTERS[entry.hub_id].columns)
            expected.append(_row(f"`{name}`", place, entry.split, entry.schema, columns))
    assert _table("set") == expected


def test_the_table_of_authors_files_is_the_code_s():
    expected = []
    for hub_id, adapter in public.ADAPTERS.items():
        for form in adapter.authors:
            names = [n for n, entry in catalog.TASKS.items() if entry.hub_id == hub_id]
            expected.append(_row(_code(names), _code(form.columns), form.description))
    assert _table("sets") == expected


def test_the_table_of_schemas_is_the_code_s():
    expected = []
    for name, schema in SCHEMAS.items():
        fields = dataclasses.fields(schema)
        needed = [f.name for f in fields if f.default is dataclasses.MISSING]
        others = [f.name for f in fields if f.name not in needed]
        expected.append(_row(f"`{name}`", _code(needed), _code(others)))
    assert _table("schema") == expected


def test_the_table_of_corpora_is_the_code_s():
    expected = [
        _row(
            f"`{name}`",
            f"{entry.hub_id}, {entry.config}" if entry.config else entry.hub_id,
            f"`{entry.column}`",
        )
        for name, entry in catalog.CORPORA.items()
        if not entry.embedded
    ]
    assert _table("corpus") == expected


def test_every_ending_is_named():
    assert all(f"`{ending}`" in PAGE for ending in files.SUFFIXES)
