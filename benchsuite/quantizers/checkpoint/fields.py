"""Single fields of a quantization config, which anybody's tool may have written.

Each function returns a field's value as it is meant, or raises ``BadField`` with words that name
it. Whole numbers may be given as text, as some tools write them.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any


class BadField(Exception):
    """A setting that cannot be read or is not supported, in words that name the field."""


def number(config: Mapping[str, Any], *names: str) -> int:
    """Return the whole number of the first of ``names`` that the config has."""
    name = next((name for name in names if name in config), names[0])
    if name not in config:
        raise BadField(f"it has no {name}")
    value = config[name]
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadField(f"{name} is {value!r}, not a whole number")
    return value


def bits(config: Mapping[str, Any], allowed: Collection[int], *names: str) -> int:
    """Return the width of the codes, one of ``allowed``."""
    found = number(config, "bits", *names)
    if found not in allowed:
        known = ", ".join(map(str, allowed))
        raise BadField(f"it has {found} bits, and only {known} can be read")
    return found


def group_size(config: Mapping[str, Any], *names: str) -> int:
    """Return the columns that share a scale: a positive number, or -1 for whole rows."""
    found = number(config, "group_size", *names)
    if found != -1 and found < 1:
        raise BadField(f"group_size is {found}, neither positive nor -1 (whole rows)")
    return found


def word(config: Mapping[str, Any], name: str, default: str) -> str:
    """Return a text in small letters; what is absent or null is the default."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadField(f"{name} is {value!r}, not a text")
    return value.lower()


def names(config: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of texts; lists inside it are opened, and null or nothing is an empty one."""
    value = config.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadField(f"{name} is {value!r}, not a list of names")
    found = [x for part in value for x in (part if isinstance(part, list) else [part])]
    if not all(isinstance(x, str) for x in found):
        raise BadField(f"{name} is {value!r}, not a list of names")
    return found


def absent(config: Mapping[str, Any], *unsupported: str) -> None:
    """Refuse settings that this reader does not know how to follow, where they are set."""
    for name in unsupported:
        if config.get(name):
            raise BadField(f"{name} is {config[name]!r}, which is not supported here")


def pattern(name: str, text: str) -> re.Pattern[str]:
    """Return a regular expression that a field gives."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadField(f"{name} has a pattern that is none: {text!r} ({error})") from error
