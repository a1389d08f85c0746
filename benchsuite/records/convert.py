"""What users hand to a record, as what JSON and Parquet keep: converted, or refused by name."""

import datetime
import decimal
import json
import math
import numbers
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from benchsuite.errors import BenchsuiteError
from benchsuite.printable import without_surrogates
from benchsuite.records.limits import DEEPEST, LARGEST

_FIX = "hand over numbers, texts, lists, dicts, numpy arrays or torch tensors"


class Refused(BenchsuiteError):
    """A value that no record can keep; ``where`` is its place in what was handed over."""


def plain(value: Any, where: str) -> tuple[Any, list[str]]:
    """Return a value as JSON keeps it, and the places of numbers in it that are not finite.

    These become None. Numpy and torch numbers and arrays (bfloat16 too), tuples, sets (sorted),
    paths, dates, decimals and enumerations are converted, halves of surrogate pairs become U+FFFD,
    and keys become texts. Anything else is `Refused`, with its place: ``where`` and the way inside.
    """
    lost: list[str] = []
    return _plain(value, where, lost, 0), lost


def _plain(value: Any, where: str, lost: list[str], depth: int) -> Any:
    if depth > DEEPEST:
        what = f"it is nested deeper than {DEEPEST} levels"
        raise Refused(what, f"{where[:40]}...", "hand over less of it")
    if isinstance(value, Enum):
        return _plain(value.value, where, lost, depth + 1)
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, str):
        return without_surrogates(str(value))
    if isinstance(value, numbers.Number):
        return _number(value, where, lost)
    if isinstance(value, Mapping):
        return _object(value, where, lost, depth)
    if isinstance(value, Set):
        inside = [_plain(v, f"{where}[{i}]", lost, depth + 1) for i, v in enumerate(value)]
        return sorted(inside, key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(value, list | tuple | range):
        return [_plain(v, f"{where}[{i}]", lost, depth + 1) for i, v in enumerate(value)]
    return _of_a_library(value, where, lost, depth)


def _of_a_library(value: Any, where: str, lost: list[str], depth: int) -> Any:
    """Return what JSON has no kind of value for: paths, dates, arrays."""
    if isinstance(value, PurePath):
        return without_surrogates(str(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    array = _array(value, where)
    if array is None:
        raise _refused(value, where)
    if isinstance(value, np.ma.MaskedArray):
        return _plain(value.tolist(), where, lost, depth + 1)
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    return _plain(array.tolist(), where, lost, depth + 1)


def _number(value: Any, where: str, lost: list[str]) -> int | float | None:
    if isinstance(value, numbers.Integral):
        whole = int(value)
        if abs(whole) > LARGEST:
            raise Refused(f"a whole number of {whole.bit_length()} bits", where, "divide it")
        return whole
    if isinstance(value, numbers.Real | decimal.Decimal):
        try:
            number = float(value)
        except (OverflowError, ValueError):  # a fraction beyond doubles, a signalling NaN
            number = math.nan
        if not math.isfinite(number):
            lost.append(where)
            return None
        return number
    raise _refused(value, where)


def _object(value: Mapping[Any, Any], where: str, lost: list[str], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = _key(key, where)
        if name in found:
            raise Refused(f"two of its keys are {name!r} as texts", where, "name them apart")
        found[name] = _plain(inner, f"{where}.{name}", lost, depth + 1)
    return found


def _key(key: Any, where: str) -> str:
    """Return a key as JSON writes it."""
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str | PurePath):
        return without_surrogates(str(key))
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    if isinstance(key, datetime.date | datetime.time):
        return key.isoformat()
    what = f"its key {_shown(key)} is a {type(key).__name__}, and keys are texts in a record"
    raise Refused(what, where, "write the key as a text")


def _array(value: Any, where: str) -> Any:
    """Return an array or a tensor as a numpy array, anything else as None."""
    if isinstance(value, np.ndarray | np.generic):
        kinds = "biufUOM"
        array = np.asarray(value)
    elif _is_tensor(value):
        kinds = "biuf"
        try:
            tensor = value.detach().cpu()
            if tensor.is_floating_point():
                tensor = tensor.to(_wider(tensor))
            array = (tensor.to_dense() if tensor.is_sparse else tensor).numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            said = str(error).splitlines()[0]
            raise Refused(f"a tensor that has no numbers to keep: {said}", where, _FIX) from error
    else:
        return None
    return array if array.dtype.kind in kinds else None


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _wider(tensor: Any) -> Any:
    """Return the dtype in which numpy holds a tensor's numbers exactly."""
    torch = sys.modules["torch"]
    return tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32


def _refused(value: Any, where: str) -> Refused:
    return Refused(f"no record keeps a value of the type {type(value).__name__}", where, _FIX)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:60]
    except Exception:
        return "of an unreadable kind"


# --- columns of items

_WHOLE = "hand over one number, truth value or text per item"


def column(values: Any, name: str) -> "np.ndarray[Any, Any]":
    """Return per-item evidence as a one-dimensional array of numbers, truth values or texts.

    None among numbers becomes NaN. Columns of two dimensions, of mixed kinds or with texts missing
    are `Refused` by name.
    """
    array = _one_dimension(values, f"column {name}")
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    if array.dtype.kind == "U":
        array = np.array([without_surrogates(text) for text in array.tolist()], dtype=array.dtype)
    if array.dtype.kind not in "biufU":
        raise Refused(f"its items are {array.dtype}", f"column {name}", _WHOLE)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _one_dimension(values: Any, where: str) -> "np.ndarray[Any, Any]":
    array = _array(values, where)
    if array is None and hasattr(values, "__array__"):  # a pandas column, for one
        array = np.asarray(values)
    if array is None and (isinstance(values, str | bytes) or not isinstance(values, _ROWS)):
        raise Refused(f"it is a value of the type {type(values).__name__}", where, _WHOLE)
    if array is None or array.dtype.kind == "O" or isinstance(values, np.ma.MaskedArray):
        array = _of_items(values.tolist() if array is not None else list(values), where)
    if array.ndim != 1:
        raise Refused(f"it has {array.ndim} dimensions", where, _WHOLE)
    return array


_ROWS = (Iterator, Sequence, Set)


def _of_items(items: list[Any], where: str) -> "np.ndarray[Any, Any]":
    items = [_array(one, where)[()] if _is_tensor(one) else one for one in items]
    kinds = {_kind(one) for one in items}
    if kinds == {"number", "nothing"}:
        return np.array([math.nan if one is None else float(one) for one in items])
    if len(kinds - {"truth value", "number", "text"}) == 0 and len(kinds) <= 1:
        return np.asarray(items)
    if "row" in kinds:
        raise Refused("it has 2 dimensions", where, _WHOLE)
    raise Refused(f"its items are of several kinds: {', '.join(sorted(kinds))}", where, _WHOLE)


def _kind(one: Any) -> str:
    kinds: tuple[tuple[str, Any], ...] = (
        ("nothing", type(None)),
        ("truth value", bool | np.bool_),
        ("number", int | float | np.integer | np.floating),
        ("text", str),
        ("row", list | tuple | np.ndarray),
    )
    return next((name for name, kind in kinds if isinstance(one, kind)), type(one).__name__)
