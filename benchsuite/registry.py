"""Names to entries: what all look-ups of samplers, quantizers, engines and the like share."""

from typing import TypeVar

from benchsuite.errors import UsageError, unknown_name

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """Entries by name; they are plain data, so that studies can be declared without torch."""

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        super().__init__(entries)
        self.kind = kind

    def add(self, name: str, entry: Entry) -> None:
        """Add an entry; a name that stands for another one is a usage error."""
        if self.get(name, entry) != entry:
            raise UsageError(
                f"the {self.kind} {name!r} is already registered as {self[name]}",
                fix="choose another name",
            )
        self[name] = entry

    def find(self, name: str) -> Entry:
        """Return an entry; an unknown name is a usage error naming the nearest."""
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]


def check_target(kind: str, name: str, target: str) -> None:
    """Raise ``UsageError`` for a target that is not ``package.module:name``."""
    if target.count(":") != 1 or not all(target.split(":")):
        raise UsageError(
            f"the {kind} {name!r} has the target {target!r}", fix="write 'package.module:function'"
        )
