"""A study's parameter: its values, the methods that have it, what it reads; and ``--set``."""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchsuite import catalog
from benchsuite.errors import UsageError, unknown_name

READ: Mapping[str, Mapping[str, Any]] = {
    "model": catalog.MODELS,
    "corpus:train": catalog.CORPORA,
    "corpus:test": catalog.CORPORA,
    "task": catalog.TASKS,
    "task:validation": catalog.TASKS,
}
"""What a parameter or an axis may read, and the catalogue that its values are names of.

Of a task its entry's own split is read, and that of the colon beside it.
"""


@dataclass(frozen=True)
class Parameter:
    """One setting of a study's cells.

    ``default`` holds for hub models, ``embedded`` for embedded ones where it is another, and
    ``packaged`` for those whose weights the package index carries.
    ``only`` are the methods that have it, by name or as a function of the name; empty is all.
    ``among`` has the values of other axes at which alone a cell has it.
    ``choices`` are its possible values, ``least`` the smallest number, and
    ``never`` those above it that mean nothing. ``reads`` says that its
    value is a catalogue entry that the cell reads: ``model``, ``corpus:train``, ``corpus:test`` or
    ``task``. ``formerly`` is an earlier name, which records and ``--set`` may still use.
    ``adds_only`` says that it measures more and changes nothing else; ``--downstream`` sets it.
    ``tokens_of`` are the stages whose tokens it counts: the parameters of a stage multiply to what
    goes through the model there. Where it is 0 for all there are, ``counted_as`` is the record's
    value that says how many there were. ``examples`` says that it counts worked examples, which
    come from the split that the tasks have for them. ``help`` is a phrase for ``benchsuite list``.
    """

    default: Any
    embedded: Any = ...
    packaged: Any = ...
    only: Sequence[str] | Callable[[str], bool] = ()
    among: Mapping[str, Sequence[str]] = field(default_factory=dict)
    choices: Sequence[Any] = ()
    least: float = 0
    never: Sequence[float] = ()
    reads: str = ""
    examples: bool = False
    formerly: str = ""
    adds_only: bool = False
    tokens_of: Sequence[str] = ()
    counted_as: str = ""
    help: str = ""

    def __post_init__(self) -> None:
        if self.reads:
            check_reads(self.reads)

    def value(self, *, embedded: bool, packaged: bool = False) -> Any:
        """Return the value that holds for an embedded model, a packaged one, or for another."""
        if packaged and self.packaged is not ...:
            return self.packaged
        return self.embedded if embedded and self.embedded is not ... else self.default

    def concerns(self, method: str) -> bool:
        """Say whether the cells of a method have this parameter."""
        if callable(self.only):
            return self.only(method)
        return not self.only or method in self.only

    def applies(self, point: Mapping[str, Any]) -> bool:
        """Say whether the cell at a point of the grid has this parameter."""
        elsewhere = any(point[axis] not in values for axis, values in self.among.items())
        return self.concerns(point.get("method", "")) and not elsewhere

    def check(self, study: str, name: str, value: Any) -> None:
        """Raise ``UsageError`` for a value that a user gave and that this parameter cannot have."""
        given = f"--set {study}.{name}={value!r}"
        if self.choices and value not in self.choices:
            raise UsageError(
                f"{given} is not possible",
                fix=f"{name} is one of {', '.join(map(str, self.choices))}",
            )
        number = _is_number(value)
        never = "".join(f" and not {value}" for value in self.never)
        if number and (value in self.never or not self.least <= value < math.inf):
            raise UsageError(
                f"{given} is out of range",
                fix=f"{name} is at least {self.least}{never}, by default {self.default!r}",
            )
        if self.reads and value and value not in READ[self.reads]:
            kind = self.reads.partition(":")[0]
            raise unknown_name(f"{kind} in --set {study}.{name}", str(value), READ[self.reads])
        if isinstance(value, tuple) and isinstance(self.default, tuple):
            alike = all(_same_kind(part, first) for first in self.default[:1] for part in value)
            if not alike or any(part < self.least for part in value if _is_number(part)):
                raise UsageError(
                    f"{given} is out of range",
                    fix=f"{name} is like {self.default!r}, each at least {self.least}",
                )
        if self.default is None and value is not None and not number:
            raise UsageError(
                f"{given} is a {type(value).__name__}", fix=f"{name} is a number, or none"
            )
        if self.default is not None and not _same_kind(value, self.default):
            raise UsageError(
                f"{given} is a {type(value).__name__}",
                fix=f"{name} is a {type(self.default).__name__}, by default {self.default!r}",
            )


def check_reads(reads: str) -> None:
    """Raise ``UsageError`` for something that a cell cannot read."""
    if reads not in READ:
        raise unknown_name("kind of input in reads", reads, READ)


def parse_setting(text: str) -> tuple[str, str, Any]:
    """Parse ``STUDY.PARAMETER=VALUE`` into study, parameter and a Python value.

    Raises ``UsageError`` for a text that is none.
    """
    match = re.fullmatch(r"([a-z0-9_]+)\.([A-Za-z0-9_]+)=(.*)", text)
    if not match:
        raise UsageError(
            f"--set {text!r} cannot be read",
            fix="write --set STUDY.PARAMETER=VALUE, as in --set calibration_selection.quant_bits=3",
        )
    name, parameter, raw = match.groups()
    literal = {"true": "True", "false": "False", "none": "None"}.get(raw.lower(), raw)
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        value = raw
    return name, parameter, value


def as_setting(study: str, name: str, value: Any) -> str:
    """Return the ``STUDY.PARAMETER=VALUE`` that `parse_setting` reads as this value.

    A list is a tuple that went through JSON; a text that would be read as something else is quoted.
    """
    text = f"{study}.{name}={tuples(value)}"
    return text if parse_setting(text)[2] == tuples(value) else f"{study}.{name}={value!r}"


def tuples(value: Any) -> Any:
    """Return a value that went through JSON as a parameter holds it, which has no lists."""
    return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))
