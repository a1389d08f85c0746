"""Dataclasses of numbers, texts and arrays as JSON and back, each field checked by its type."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import numpy as np

from benchsuite.errors import CorruptRecord


def as_json(value: Any) -> Any:
    """Return what JSON keeps of a value: arrays become lists, dataclasses objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: as_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def of_json(kind: Any, value: Any, where: str = "") -> Any:
    """Return a value of type ``kind`` from what `as_json` gave of it.

    Types are those of dataclasses of ours: texts, numbers, truth values, arrays of float64 or bool,
    tuples of one type, mappings, optional ones. Anything else in the JSON is `CorruptRecord`.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        return of_json(next(k for k in inner if k is not type(None)), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(of_json(inner[0], one, f"{where}[{i}]") for i, one in enumerate(value))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: of_json(inner[1], one, f"{where}.{key}") for key, one in value.items()}
    if kind is np.ndarray and isinstance(value, list):
        return _array(value, where)
    wanted = (int, float) if kind is float else kind
    other = origin is not None or not isinstance(value, wanted)
    if other or (kind is not bool and isinstance(value, bool)):
        raise CorruptRecord(f"malformed: {where or 'it'} is {str(value)[:60]!r}")
    return float(value) if kind is float else value


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise CorruptRecord(f"malformed: {where or 'it'} is no object")
    hints = _hints(kind)
    if value.keys() != hints.keys():
        odd = sorted(value.keys() ^ hints.keys())
        raise CorruptRecord(f"malformed: {where or 'it'} has other fields: {', '.join(odd)}")
    try:
        return kind(**{n: of_json(h, value[n], f"{where}.{n}") for n, h in hints.items()})
    except ValueError as error:
        raise CorruptRecord(f"malformed: {where or 'it'}: {error}") from error


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _array(value: list[Any], where: str) -> np.ndarray:
    if all(isinstance(one, bool) for one in value) and value:
        return np.array(value, dtype=bool)
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        return np.array(value, dtype=np.float64)
    raise CorruptRecord(f"malformed: {where or 'it'} is no list of numbers")
