"""``benchsuite list``: the studies and the catalogue."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchsuite import catalog
from benchsuite.commands.collecting import collect
from benchsuite.study import study


def list_studies(arguments: Sequence[str]) -> int:
    """Print the studies: question, axes, seeds, parameters; a named one with its methods."""
    words = list(arguments)
    named = []
    while words and not words[0].startswith("-") and not Path(words[0].split("::")[0]).exists():
        named.append(words.pop(0))
    collected = collect(words)
    chosen = [study(name).name for name in named]
    by_study = Counter(cell.study for _, cell, _ in collected.cells)
    for name in chosen or collected.studies():
        declared = study(name)
        print(f"{name}: {declared.question}")
        for axis, values in declared.axes.items():
            print(f"  {axis:<10} {', '.join(values)}")
        print(f"  {'seeds':<10} {', '.join(map(str, declared.seeds))}")
        settings = (f"{k}={v!r}" for k, v in declared.parameters.items())
        print(f"  {'parameters':<10} {', '.join(settings)}")
        print(f"  {by_study[name]} cells selected\n")
        for method in declared.axes.get("method", ()) if chosen else ():
            if declared.describe(method):
                print(f"{method}\n{textwrap.indent(declared.describe(method), '    ')}")
    if chosen:
        return 0
    for kind, table in catalog.TABLES.items():
        print(f"{kind}: {', '.join(table)}")
    return 0
