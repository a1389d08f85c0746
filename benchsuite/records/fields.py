"""Fields of a JSON object, each taken as the kind that it must be: another is `CorruptRecord`."""

import re
from typing import Any

from benchsuite.errors import CorruptRecord

_FILE_NAME = re.compile(r"\w[\w .+=,-]*")
_KINDS: dict[str, tuple[type, ...]] = {
    "a text": (str,),
    "a number": (int, float),
    "a whole number": (int,),
    "an object": (dict,),
    "a list": (list,),
    "true or false": (bool,),
}


class Fields:
    """An object inside a record; a field that is missing or of another kind is named.

    Each method returns a field of one kind, or raises `CorruptRecord`.
    """

    def __init__(self, found: Any, where: str = "") -> None:
        self._where = where
        if not isinstance(found, dict):
            raise malformed(where, found, "an object")
        self.found: dict[str, Any] = found

    def __contains__(self, name: str) -> bool:
        return self.found.get(name) is not None

    def part(self, name: str) -> "Fields":
        """Return an object inside."""
        return Fields(self.found.get(name), self._path(name))

    def text(self, name: str) -> str:
        """Return a text."""
        return self._take(name, "a text")

    def whole(self, name: str) -> int:
        """Return a whole number."""
        return self._take(name, "a whole number")

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return self._take(name, "true or false")

    def table(self, name: str) -> dict[str, Any]:
        """Return an object as a dict."""
        return self._take(name, "an object")

    def numbers(self, name: str) -> dict[str, float]:
        """Return an object of numbers."""
        table = self.part(name)
        return {key: table._take(key, "a number") for key in table.found}

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        listed = self._take(name, "a list")
        for one in listed:
            if not isinstance(one, str):
                raise malformed(self._path(name), one, "a list of texts")
        return tuple(listed)

    def number(self, name: str) -> float:
        """Return a number."""
        return self._take(name, "a number")

    def file_name(self, name: str) -> str:
        """Return a text that is safe as the name of a file."""
        text = self.text(name)
        if not _FILE_NAME.fullmatch(text):
            raise CorruptRecord(f"malformed: {self._path(name)} is no safe file name: {text!r}")
        return text

    def maybe(self, name: str, take: Any) -> Any:
        """Return a field by one of the methods above, None where it is null or missing."""
        return take(self, name) if name in self else None

    def _take(self, name: str, kind: str) -> Any:
        value = self.found.get(name)
        wrong = isinstance(value, bool) and kind != "true or false"
        if wrong or not isinstance(value, _KINDS[kind]):
            raise malformed(self._path(name), value, kind)
        return value

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}".lstrip(".")


def malformed(where: str, found: Any, wanted: str) -> CorruptRecord:
    """Return the error of a field, by its path, that is not what was ``wanted``, in words."""
    return CorruptRecord(f"malformed: {where or 'the record'} is {kind_of(found)}, not {wanted}")


def kind_of(found: Any) -> str:
    """Return what a value of JSON is, in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null or missing"}
    return kinds.get(type(found), "true or false" if isinstance(found, bool) else "a number")
