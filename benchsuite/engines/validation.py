"""What an engine answers, checked in one place: a wrong answer is refused, never cut or rounded.

An engine runs in an interpreter of its own with libraries of its own, so that no type of its
answers is certain. Each function returns what it was given, or raises ``Refused``.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

_SHOWN_CHARACTERS = 60
_LARGEST_TOKEN = 2**31
_LARGEST_INTEGER = 2**53  # beyond it, an integer is no exact float64


class Refused(ValueError):
    """An answer that cannot be right; the text says why."""


class NoAnswer(Refused):
    """A line that is no answer to the request: nothing else from this process can be trusted."""


def answer(line: bytes, to: int) -> dict[str, Any]:
    """Return the object in a line that answers the request number ``to``.

    It has either ``answer`` or ``error``, a text. Its numbers are finite, its texts Unicode.
    """
    infinite: list[str] = []

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            infinite.append(text)
        return value

    try:
        found = json.loads(line.decode(), parse_float=number, parse_constant=number)
        json.dumps(found, ensure_ascii=False).encode()  # fails on half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise NoAnswer(f"{_shown(line)} ({error})") from error
    if not isinstance(found, dict) or found.get("to") != to:
        raise NoAnswer(_shown(line))
    if found.keys() == {"to", "error"} and isinstance(found["error"], str):
        return found
    if found.keys() != {"to", "answer"}:
        raise NoAnswer(_shown(line))
    if infinite:
        raise Refused(f"{infinite[0]}, which is not a finite number")
    return found


def loaded(found: Any) -> dict[str, Any]:
    """Check what ``load`` says: an object."""
    return _object(found)


def generated(found: Any, prompts: int, max_tokens: int) -> dict[str, Any]:
    """Check a batch: ``tokens`` and ``logprobs``, both [prompts, max_tokens]."""
    lengths = [max_tokens] * prompts
    _rows(found, "tokens", lengths, _is_token)
    _rows(found, "logprobs", lengths, _is_number)
    return _object(found)


def scored(found: Any, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Check ``logprobs`` and ``best``: one for each token after a prompt's first."""
    lengths = [len(prompt) - 1 for prompt in prompts]
    _rows(found, "logprobs", lengths, _is_number)
    _rows(found, "best", lengths, _is_token)
    return _object(found)


def judged(found: Any, lengths: list[int]) -> dict[str, Any]:
    """Check ``ranks`` and ``margins``: one of each for each served token."""
    _rows(found, "ranks", lengths, _is_token)
    _rows(found, "margins", lengths, _is_number)
    return _object(found)


def kernels(found: Any) -> dict[str, Any]:
    """Check a profile: whether it succeeded, and name, count and microseconds of each kernel."""
    _field(found, "profiling_succeeded", bool)
    for kernel in _field(found, "all_kernels", list):
        _field(kernel, "name", str)
        _field(kernel, "count", int)
        if not _is_number(kernel.get("time_us")):
            raise Refused(f"a kernel without time_us: {_shown(kernel)}")
    return _object(found)


def prepared(found: Any) -> dict[str, Any]:
    """Check ``weights_sha256``: a text, or null where nothing was quantized."""
    if not isinstance(_object(found).get("weights_sha256", 0), str | None):
        raise Refused(f"no weights_sha256: {_shown(found)}")
    return _object(found)


def timed(found: Any, repeats: int) -> dict[str, Any]:
    """Check a latency: ``repeats`` positive ``seconds`` and the peak of memory."""
    seconds = _field(found, "seconds", list)
    if len(seconds) != repeats or not all(_is_number(s) and s > 0 for s in seconds):
        raise Refused(f"seconds {_shown(seconds)} for {repeats} repetitions")
    _field(found, "peak_memory_bytes", int)
    return _object(found)


def _rows(found: Any, key: str, lengths: list[int], right: Callable[[Any], bool]) -> None:
    """Check a list of lists of these lengths, each value ``right``."""
    rows = _field(found, key, list)
    if [len(row) if isinstance(row, list) else None for row in rows] != lengths:
        raise Refused(f"{key} {_shown(rows)} where rows of the lengths {_shown(lengths)} belong")
    for value in (value for row in rows for value in row if not right(value)):
        raise Refused(f"{_shown(value)} among the {key}")


def _field(found: Any, key: str, kind: type) -> Any:
    value = _object(found).get(key)
    if type(value) is not kind:  # a bool is an int to isinstance
        raise Refused(f"{key} {_shown(value)}" if key in found else f"no {key}: {_shown(found)}")
    return value


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Refused(f"{_shown(found)} where an object belongs")
    return found


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_TOKEN


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= _LARGEST_INTEGER)


def _shown(value: Any) -> str:
    """Return the beginning of a value as text that a terminal can show."""
    text = repr(value) if isinstance(value, bytes) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."
