"""The smallest effect that matters, as it is declared: "0.5%" or "1"."""

import math


def absolute(declared: str, reference: float, scale: float = 1) -> float:
    """Return a declared margin in the unit of the stored numbers.

    ``"0.5%"`` is relative to the size of ``reference``, the arm compared with. A plain number is
    in the unit shown, which is the stored one times ``scale``: ``"1"`` is a point of accuracy
    whether shares or percents are stored. What cannot be read, or is not positive, is a ValueError.
    """
    text = declared.strip()
    number = float(text.removesuffix("%"))
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{declared!r} is not positive")
    return number / 100 * abs(reference) if text.endswith("%") else number / scale
