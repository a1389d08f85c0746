"""Numbers as they were printed: what each one may have been before it was rounded."""

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_DIGITS = r"[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+−]?\d+)?"
_NUMBER = re.compile(rf"(?:[ptdn]\s*)?([<>≤≥=]?)\s*({_DIGITS})\s*(?:%|\*{{1,3}})?", re.IGNORECASE)
_PLUS_MINUS = re.compile(rf"\$?({_DIGITS})\$?\s*(?:±|\+/?[-−]|\$?\\pm\$?)\s*\$?({_DIGITS})\$?\s*%?")
# The room that unrounded numbers of double precision need after some arithmetic.
EXACT = 1e-9


@dataclass(frozen=True)
class Number:
    """A number and the range of what may stand behind it: ``low`` to ``high``."""

    value: float
    low: float
    high: float

    @classmethod
    def spanning(cls, value: float, ends: Iterable[float]) -> "Number":
        """Return a number computed from others, with the ends that their ranges give it."""
        known = [end for end in ends if not math.isnan(end)]
        return cls(value, min(known, default=-math.inf), max(known, default=math.inf))

    def meets(self, other: "Number") -> bool:
        """Say whether the two ranges have a value in common."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        finite = [abs(x) for x in (self.low, self.high, other.low, other.high) if math.isfinite(x)]
        return low <= high + EXACT * max(finite, default=0.0)

    @property
    def told(self) -> str:
        """The range in words, with enough digits to see its ends apart."""
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        return low if low == high else f"{low} to {high}"


def printed(value: Any) -> Number | None:
    """Return a printed number with every value that rounds to it; None for what is no number.

    Numbers of Python and numpy, decimals and texts are read: ``"5.70"``, ``"−1.3"``, ``"1.4 %"``,
    ``"p < .001"``, ``"0.03*"``. Each is taken as rounded at its own last digit: a table that is
    rounded to three digits, or by its errors, has other decimals in every row. A ``Number`` is
    returned as it is.
    """
    if isinstance(value, Number):
        return value
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, Decimal):
        return _of_text(str(value))
    precision = EXACT
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        import numpy as np

        if value.dtype.kind == "f":
            precision = max(EXACT, float(np.finfo(value.dtype).eps))
            value = float(str(value.dtype.type(value)))
        else:
            value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if abs(value) > sys.float_info.max or value != value:  # a whole number may be of any size
        return None
    return _rounded(float(value), _last_digit(repr(value)), precision)


def plus_minus(value: Any) -> tuple[Number, Number] | None:
    """Return the mean and standard deviation of a text such as ``82.45 ± 0.73``."""
    found = _PLUS_MINUS.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    mean, std = (_of_text(text) for text in found.groups())
    return (mean, std) if mean and std else None


def whole(value: Any) -> int | None:
    """Return a count; None for what is no whole number."""
    seen = printed(value)
    return int(seen.value) if seen and seen.value == int(seen.value) else None


def listed(value: Any) -> list[Any] | None:
    """Return a list, a tuple, an array or a text such as ``42, 43`` or ``[5.6, 5.8]`` as a list."""
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:
        return list(value)
    if isinstance(value, str):
        parts = value.strip().strip("[]()").replace(";", ",").split(",")
        return [p.strip() for p in parts] if len(parts) > 1 and all(map(printed, parts)) else None
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return list(value)
    return None


def _of_text(text: str) -> Number | None:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    sign, digits = found.group(1), found.group(2).replace("−", "-")
    value = float(digits)
    if not math.isfinite(value):
        return None
    if sign in ("<", "≤"):
        return Number(value, 0.0, value)
    if sign in (">", "≥"):
        return Number(value, value, math.inf)
    return _rounded(value, _last_digit(digits))


def _rounded(value: float, exponent: int, precision: float = EXACT) -> Number:
    slack = max(0.5000001 * 10.0**exponent, precision * abs(value))
    return Number(value, value - slack, value + slack)


def _last_digit(digits: str) -> int:
    """Return the power of ten of the last digit that a text is sure to show.

    The zero of 5.0 is written by Python to whole numbers, too, and 1230 may be of three digits.
    """
    shown = Decimal(digits)
    exponent = int(shown.as_tuple().exponent)
    if exponent < -1 or shown != shown.to_integral_value():
        return exponent
    if shown == 0:
        return 0
    plain = int(shown.normalize().as_tuple().exponent)
    return min(plain, max(0, shown.adjusted() - 2))
