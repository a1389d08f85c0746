"""Numbers as text, with as many digits as their uncertainty carries."""

import math
from typing import Protocol

MOST_DECIMALS = 8
# From here on, and below what the decimals can show, a power of ten is read more easily.
LARGE, SMALL = 10**9, 10**-4
DIGITS = 15  # that float64 holds


class Display(Protocol):
    """How the numbers of a metric are shown: times ``scale``, in ``unit``, alone in ``format``."""

    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def format(self) -> str: ...  # noqa: D102


def alone(how: Display, value: float, digits: int = 4) -> str:
    """Return a number whose uncertainty is not known, without its unit; ``digits`` by default."""
    number = value * how.scale if how.scale != 1 else value
    if not how.format:
        return plain(number, digits)
    return f"{number:{how.format}}".replace("-", "−", 1 if number < 0 else 0)


def spread(how: Display, mean: float | None, std: float | None, *, unit: bool = True) -> str:
    """Return a mean with its standard deviation, ``41.2 ± 0.8 %``, or alone if that is unknown.

    Without ``unit`` the number is for a table whose head says it.
    """
    if mean is None:
        return "–"
    if not std:
        text = alone(how, mean) + (" ± 0" if std is not None else "")
    else:
        text = with_uncertainty(mean * how.scale, std * how.scale)
    return in_unit(how, text) if unit else text


def in_unit(how: Display, text: str) -> str:
    """Return a shown number with its unit, if it has one."""
    return f"{text} {how.unit}" if how.unit else text


def of_difference(how: Display, text: str) -> str:
    """Return a shown difference with its unit: between two percentages it is points."""
    return f"{text} points" if how.unit == "%" else in_unit(how, text)


def decimals_for(uncertainty: float) -> int:
    """Return the decimals that an uncertainty justifies, by the Particle Data Group's rule.

    Of its three leading digits, 100 to 354 keep two digits and 355 to 949 one; 950 to 999 round up
    to 1000 and keep two (Review of Particle Physics, section 5.3).
    """
    if not (uncertainty > 0 and math.isfinite(uncertainty)):
        return 4
    return min(MOST_DECIMALS, max(0, _last_digit(uncertainty)))


def _last_digit(uncertainty: float) -> int:
    """Return the place of the last digit that counts: 2 for hundredths, -3 for thousands."""
    digits, power = f"{uncertainty:.2e}".split("e")
    exponent, leading = int(power), int(digits.replace(".", ""))
    if leading >= 950:
        exponent, leading = exponent + 1, 100
    return (2 if leading < 355 else 1) - 1 - exponent


def _by_powers(uncertainty: float, *values: float) -> int | None:
    """Return the decimals of numbers that powers of ten must show, or None where none need be."""
    largest = max(map(abs, values))
    if not (0 < uncertainty < math.inf and 0 < largest < math.inf):
        return None
    last = _last_digit(uncertainty)
    decimals = last + math.floor(math.log10(largest))
    if largest < LARGE and (last <= MOST_DECIMALS or largest >= SMALL):
        return None
    if largest >= LARGE and MOST_DECIMALS < decimals < DIGITS:  # more than a power would show
        return None
    return min(MOST_DECIMALS, max(1, decimals))


def with_uncertainty(mean: float | None, std: float | None) -> str:
    """Return ``5.72 ± 0.08``; a std of 0 is written as 0, an unknown one is left out."""
    if mean is None:
        return "–"
    if std is None:
        return plain(mean)
    if std == 0:
        return f"{plain(mean)} ± 0"
    powers = _by_powers(std, mean, std)
    if powers is not None:
        return f"{_power(mean, powers)} ± {std:.1e}"
    decimals = decimals_for(std)
    seen = f"{std:.{decimals}f}"
    if float(seen) == 0:
        return f"{plain(mean)} ± {std:.1e}"
    return f"{_fixed(mean, decimals)} ± {seen}"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return ``−0.07 [−0.22, 0.08]``, rounded by the interval's half-width."""
    if value is None:
        return "–"
    if low is None or high is None:
        return plain(value)
    if low == high:
        return f"{plain(value)} (exact)"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{plain(value)} (no interval)"
    powers = _by_powers((high - low) / 2, value, low, high)
    if powers is not None:
        return f"{_power(value, powers)} [{_power(low, powers)}, {_power(high, powers)}]"
    decimals = decimals_for((high - low) / 2)
    return f"{_fixed(value, decimals)} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"


def plain(value: float, digits: int = 4) -> str:
    """Return a number without known uncertainty: four decimals at most, or four digits."""
    if value == 0:
        return "0"
    if abs(value) >= 10**6 or abs(value) < 10**-digits:
        return _power(value, digits - 1)
    return _fixed(value, digits if abs(value) < 1000 else 1)


def p_text(p_value: float | None) -> str:
    """Return ``p = 0.24``, ``p = 0.0031`` or ``p < 0.0001``."""
    if p_value is None:
        return "no p-value"
    if p_value < 0.0001:
        return "p < 0.0001"
    return f"p = {p_value:.4f}" if p_value < 0.01 else f"p = {p_value:.3f}"


def short(value: float) -> str:
    """Return a positive number with two significant digits, for prose."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 1 - math.floor(math.log10(abs(value))))
    if decimals > MOST_DECIMALS or abs(value) >= 10**6:
        return f"{value:.2g}"
    return _fixed(value, decimals)


def signed(value: float | None, decimals: int = 2) -> str:
    """Return a number with a real minus sign, for prose."""
    if value is None:
        return "–"
    return _fixed(value, decimals) if abs(value) < LARGE else _power(value, decimals)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        return text[1:] if float(text) == 0 else "−" + text[1:]
    return text


def _power(value: float, decimals: int) -> str:
    if value == 0:
        return "0"
    return f"{value:.{decimals}e}".replace("-", "−", 1 if value < 0 else 0)
