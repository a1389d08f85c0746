"""A study's parameters as rows of text, for ``benchsuite list`` and the documentation."""

from collections.abc import Iterable
from typing import Any

from benchsuite.study.cell import Cell
from benchsuite.study.parameter import Parameter
from benchsuite.study.study import Study


def parameter_rows(study: Study) -> list[tuple[str, str, str, str]]:
    """Return each parameter's name, value for hub models, value for embedded ones, and meaning."""
    return [
        (
            name,
            _shown(parameter.default),
            _shown(parameter.value(embedded=True)),
            meaning(parameter, study.axes.get("method", ())),
        )
        for name, parameter in study.parameters.items()
    ]


def values_of(cells: Iterable[Cell], name: str) -> list[str]:
    """Return the different values that a parameter has in some cells, in their order."""
    found: dict[str, Any] = {}
    for cell in cells:
        if name in cell.parameters:
            found.setdefault(_shown(cell.parameters[name]), None)
    return list(found)


def meaning(parameter: Parameter, methods: Iterable[str]) -> str:
    """Return a parameter's help with its choices and what alone has it: methods, axis values."""
    every = list(methods)
    own = [method for method in every if parameter.concerns(method)]
    parts = [parameter.help]
    if parameter.choices:
        parts.append(f"one of {', '.join(map(str, parameter.choices))}")
    if len(own) < len(every):
        parts.append(f"only {', '.join(own) or 'methods of your own'}")
    parts += [f"only {axis} {', '.join(values)}" for axis, values in parameter.among.items()]
    return "; ".join(part for part in parts if part)


def _shown(value: Any) -> str:
    return str(value) if value != "" else "(none)"
