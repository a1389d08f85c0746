"""The number that a written solution ends in, however it is written.

Read as one number: thousands in groups (``1,000``, ``1 000``), currency before, signs of every
kind, decimals, fractions (``3/4``, ``\\frac34``, ``½``), mixed numbers (``2 1/2``,
``3\\frac{1}{2}``), powers (``10^3``) and scientific notation (``1e3``, ``2 \\times 10^{3}``).
Units are not: the 2 of ``x2``, ``x_2`` and ``cm^2`` is no number, nor is a date one.
"""

import math
import re
import unicodedata
from collections.abc import Iterator

from benchsuite.embedded import prompts

# What announces the answer: ours, GSM8K's, LaTeX's.
_MARKER = re.compile(rf"(?i:{re.escape(prompts.ANSWER_IS[:-1])}):?|####|\\boxed\s*\{{")

# Hyphens, the en dash and the minus sign stand for one another in models' texts.
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–−﹣－", "-") | {"⁄": "/"})
_LATEX_SPACE = re.compile(r"\\[,!;:]|\{,\}|\\ ")
_LATEX_SIGN = re.compile(r"\\([$%])")
_PART = r"\s*(?:\{([^{}]+)\}|(\d))"
_LATEX_FRACTION = re.compile(rf"(\d\s*)?\\[cdt]?frac{_PART}{_PART}")
_VULGAR = re.compile(r"(\d\s?)?([¼-¾⅐-⅞↉])")
_RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_DATE = re.compile(r"(?<![\d/])(\d{1,4})/(\d{1,2})/(\d{1,4})(?![\d/])")

# Groups of three, by commas (above them India's of two) or by spaces of any width; "2 100-pound
# bags" are two numbers.
_SPACE = "[ \u00a0\u2007\u2009\u202f]"
_WHOLE = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
    rf"|[1-9]\d{{0,2}}(?:{_SPACE}\d{{3}})+(?!\d|/|-[A-Za-z])"
    r"|\d+)"
)
_POWER = r"\s?\^\s?\{?\s?(?P<power>[-+]?\d{1,4})\}?"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}.%$])[-+])?(?:[$€£¥]\s?(?P<inner>[-+])?)?"
    r"(?<![A-Za-z_\d])(?<![_^]\{)(?<!\^)(?<!\^[-+])(?<!\^\{[-+])"
    rf"(?P<number>{_WHOLE}(?:\.\d+)?|\.\d+)"
    r"(?:(?P<exponent>[eE][-+]?\d+)"
    rf"|\s?(?:\\times|\\cdot|[×·*xX])\s?10{_POWER.replace('power', 'ten')}"
    rf"|{_POWER})?"
    rf"(?:/(?P<denominator>{_WHOLE}(?:\.\d+)?))?"
)
_PROPER = re.compile(rf"{_SPACE}{{1,2}}(\d+)/(\d+)(?!\d|/|\.\d)")


def final_number(text: str) -> float | None:
    """Return the number that a solution ends in, or None.

    After the first "The answer is", ``####`` or ``\\boxed{``: the first number of that line, or the
    first after its last equals sign. Without any of these: the last number of the text. Percent
    signs are units. A number too large for a float is none.
    """
    text = _plain(text)
    marker = _MARKER.search(text)
    if marker is None:
        values = list(_numbers(text))
        return values[-1] if values else None
    line = text[marker.end() :].lstrip().split("\n", 1)[0]
    return next(_numbers(line.rsplit("=", 1)[-1]), None)


def _plain(text: str) -> str:
    """Return a text with LaTeX and typographic forms of numbers in plain ones."""
    text = _RAISED.sub(lambda m: f"^{unicodedata.normalize('NFKC', m[0])}", text)
    text = _LATEX_SPACE.sub(lambda m: {"{,}": ",", "\\ ": " "}.get(m[0], ""), text)
    text = _LATEX_SIGN.sub(r"\1", text)
    text = _VULGAR.sub(lambda m: _after(m[1], unicodedata.normalize("NFKC", m[2])), text)
    text = _LATEX_FRACTION.sub(
        lambda m: _after(m[1], f"{(m[2] or m[3]).strip()}/{(m[4] or m[5]).strip()}"), text
    )
    return _DATE.sub(r"\1; \2; \3", text.translate(_DASHES))


def _after(digit: str | None, fraction: str) -> str:
    return f"{digit.strip()} {fraction}" if digit else fraction


def _numbers(text: str) -> Iterator[float]:
    place = 0
    while found := _NUMBER.search(text, place):
        value, place = _value(found), found.end()
        part = _PROPER.match(text, place)
        if part and found["number"].isdecimal() and found.end() == found.end("number"):
            top, bottom = int(part[1]), int(part[2])
            if top < bottom:
                value, place = value + top / bottom, part.end()
        if math.isfinite(value):
            yield -value if "-" in (found["sign"], found["inner"]) else value


def _value(found: re.Match[str]) -> float:
    """Return a number without its sign; not a finite one where there is none."""
    value = _float(found["number"] + (found["exponent"] or ""))
    try:
        if found["ten"]:
            value *= 10.0 ** int(found["ten"])
        if found["power"]:
            value **= int(found["power"])
    except (OverflowError, ZeroDivisionError):
        return math.nan
    divisor = _float(found["denominator"] or "1")
    return value / divisor if divisor else math.nan


def _float(digits: str) -> float:
    return float(re.sub(rf"{_SPACE}|,", "", digits))
