"""``benchsuite list``: the studies and the catalogue."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchsuite import catalog
from benchsuite.commands.collecting import collect, register_own
from benchsuite.printable import count
from benchsuite.study import Cell, Study, names, study
from benchsuite.study.table import parameter_rows, values_of


def list_studies(arguments: Sequence[str]) -> int:
    """Print the studies: question, axes, seeds, parameters; a named one with its methods.

    With -k or -m, or where the ini file sets some, the parameters have the values of the cells
    selected.
    """
    words = list(arguments)
    named = []
    while words and not words[0].startswith("-") and _means_a_study(words[0]):
        named.append(words.pop(0))
    collected = collect(words)
    chosen = [study(name).name for name in named]
    for name in chosen or collected.studies():
        declared = study(name)
        cells = [cell for _, cell, _ in collected.cells if cell.study == name]
        print(f"{name}: {declared.question}")
        for axis, values in declared.axes.items():
            print(f"  {axis:<10} {', '.join(values)}")
        print(f"  {'seeds':<10} {', '.join(map(str, declared.seeds))}")
        own = cells if words or any(cell.changed for cell in cells) else []
        for line in _aligned(_parameters(declared, own)):
            print(f"  {line}")
        print(f"  {count(len(cells), 'cell')} selected\n")
        for method in declared.axes.get("method", ()) if chosen else ():
            if declared.describe(method):
                print(f"{method}\n{textwrap.indent(declared.describe(method), '    ')}")
    if chosen:
        return 0
    for kind, table in catalog.TABLES.items():
        print(f"{kind}: {', '.join(table)}")
    return 0


def _means_a_study(word: str) -> bool:
    """Say whether a word names a study: one that is a folder too does, as its package may be."""
    if not Path(word.split("::")[0]).exists():
        return True
    if not word.isidentifier():
        return False
    register_own()
    return word in names()


def _parameters(declared: Study, cells: Sequence[Cell]) -> Iterator[tuple[str, ...]]:
    """Yield the table of parameters, its head first; with the values of ``cells`` if there are."""
    rows = parameter_rows(declared)
    if cells:
        yield ("parameter", "selected", "")
        for name, _, _, meaning in rows:
            values = values_of(cells, name)
            if values:
                yield (name, ", ".join(values), meaning)
    elif rows:
        yield ("parameter", "hub models", "embedded", "")
        for name, hub, embedded, meaning in rows:
            yield (name, hub, embedded if embedded != hub else "", meaning)


def _aligned(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)][:-1]
    for row in table:
        cells = [f"{text:<{width}}" for text, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
