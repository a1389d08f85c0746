"""Names to entries: what all look-ups of samplers, quantizers, engines and the like share."""

from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar

from benchsuite.errors import UsageError, unknown_name

Entry = TypeVar("Entry")


_REGISTRIES: "dict[str, Registry[Any]]" = {}


class Registry(dict[str, Entry]):
    """Entries by name; they are plain data, so that studies can be declared without torch."""

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.kind = kind
        self.added: dict[str, Entry] = {}
        _REGISTRIES[kind] = self

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry; a name that stands for another one is a usage error."""
        if self.get(name, entry) != entry:
            raise UsageError(
                f"the {self.kind} {name!r} is already registered as {self[name]}",
                fix="choose another name",
            )
        if name not in self:
            self.added[name] = entry
        self[name] = entry

    def find(self, name: str) -> Entry:
        """Return an entry; an unknown name is a usage error naming the nearest."""
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]


def added_entries(names: Iterable[Any]) -> dict[str, Any]:
    """Return what was registered beside the project's own under any of the names, json-able.

    The project's own entries are code, which a change makes another; those of a user's conftest are
    known by nothing else. What an entry names in turn (a variant its engine) belongs to it.
    """
    found: dict[str, Any] = {}
    waiting = [name for name in names if isinstance(name, str)]
    while waiting:
        name = waiting.pop()
        for kind, registry in _REGISTRIES.items():
            if name in registry.added and f"{kind} {name}" not in found:
                entry = registry.added[name]
                told = (
                    asdict(entry) if is_dataclass(entry) and not isinstance(entry, type) else entry
                )
                found[f"{kind} {name}"] = told
                if isinstance(told, dict):
                    waiting += [value for value in told.values() if isinstance(value, str)]
    return found


def check_target(kind: str, name: str, target: str) -> None:
    """Raise ``UsageError`` for a target that is not ``package.module:name``."""
    if target.count(":") != 1 or not all(target.split(":")):
        raise UsageError(
            f"the {kind} {name!r} has the target {target!r}", fix="write 'package.module:function'"
        )
