"""The number that a solution ends in, in every way that models and people write one."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.evaluation.numbers import final_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        ("so there are 1,234,567 bees", 1234567),
        ("1,234.5 km", 1234.5),
        ("He has 3, 4 or 5.", 5),
        ("3,5", 5),  # no group of thousands
        ("-7", -7),
        ("it falls to −7 degrees", -7),
        ("-$5.50", -5.5),
        ("$-5.50", -5.5),
        ("10-3", 3),  # a difference, not a sign
        ("10 - 3 = 7", 7),
        ("(2)-3", 3),
        ("from 3-5", 5),
        (".5", 0.5),
        ("0.125.", 0.125),
        ("5%", 5),
        ("12cm", 12),
        ("£3", 3),
        ("1.5e3 joules", 1500),
        ("3/4", 0.75),
        ("-1/2", -0.5),
        ("12/4=3", 3),
        ("H2 and x3", None),
        ("no number", None),
        ("", None),
        ("7/0", None),
        ("1e999", None),
        ("2 then 1e999", 2),
        ("<<2*3=6>>6 in all\n#### 6", 6),
        ("#### -1,000\nQuestion 17", -1000),
        ("The answer is ₹1,00,000.", 100000),
        ("The answer is 12,34,567.5", 1234567.5),
        ("<<81+62=143>> <<143-30=113>>\nThe answer is: 113", 113),
        ("The answer is 8. Then 9 came.", 8),
        ("the answer is: 2 + 3 = 5 apples", 5),
        ("The answer is: unknown\n9", None),
        ("The answer is: $12.00.", 12),
        (r"Hence \boxed{42}.", 42),
        (r"so \boxed{-\frac{3}{4}} of 9", -0.75),
        (r"\boxed{1{,}234}", 1234),
        (r"$\boxed{10\,000}$", 10000),
        (r"\boxed{x = 7}", 7),
        (r"\dfrac{1}{8}", 0.125),
    ],
)
def test_final_number(text, expected):
    assert final_number(text) == expected


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_every_written_number_is_read_back(whole, decimals):
    value = whole / 10**decimals
    for text in (f"{value:,.{decimals}f}", f"{value:.{decimals}f}"):
        assert final_number(f"so 7 and {text} km.") == pytest.approx(float(f"{value:.{decimals}f}"))
        assert final_number(f"The answer is: {text}\n\n8") == final_number(text)


@given(st.text(max_size=40))
def test_any_text_gives_a_finite_number_or_none(text):
    found = final_number(text)
    assert found is None or math.isfinite(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"3\frac{1}{2}", 3.5),
        (r"3 \frac{1}{2} cups", 3.5),
        (r"3\tfrac12", 3.5),
        (r"\frac12", 0.5),
        (r"-\frac{3}4", -0.75),
        (r"\frac{1,000}{4}", 250),
        (r"\frac{-3}{4}", -0.75),
        ("2 1/2", 2.5),
        ("-2 1/2 degrees", -2.5),
        ("2 5/2", 2.5),  # no mixed number: the last is five halves
        ("5½", 5.5),
        ("5 ¾ miles", 5.75),
        ("½", 0.5),
        ("1⁄4", 0.25),
        ("it is –7", -7),
        ("it is −7", -7),
        ("it is ‑7", -7),
        ("5 – 7", 7),
        ("5–7", 7),
        ("pages 10—12", 12),
        ("1 000 000", 1000000),
        ("1\u202f000\u202f000", 1000000),
        ("1\u2009000", 1000),
        ("12\xa0500.25 euros", 12500.25),
        ("It costs 1 000.", 1000),
        ("in 2019 300 people", 300),
        ("2 100-pound bags", 100),
        ("on May 12 2024", 2024),
        ("7 1000", 1000),
        (r"2 \times 10^{3}", 2000),
        (r"2 \cdot 10^3", 2000),
        ("2×10³", 2000),
        ("2.5 x 10^-3 m", 0.0025),
        ("6 * 10⁻² ", 0.06),
        ("10^{6}", 1000000),
        ("-2^3", -8),
        ("2^5 = 32", 32),
        ("12 cm^2", 12),
        ("12 m²", 12),
        ("12 m^{-2}", 12),
        (r"x_{2}", None),
        ("10^9999", None),
        ("0^-1", None),
        ("1e3", 1000),
        ("1E-3", 0.001),
        ("-.5", -0.5),
        ("1,234.5", 1234.5),
        ("$12", 12),
        ("$ 12", 12),
        ("-$ 12", -12),
        (r"\$1,200", 1200),
        ("12%", 12),
        (r"12\%", 12),
        ("It is 7.", 7),
        ("from 3 to 5", 5),
        ("2024-01-15", 15),
        ("12/25/2024", 2024),
        ("The answer is 12/25/2024", 12),
        ("#### 1,234", 1234),
        ("#### -$1,234.50", -1234.5),
        ("<<10/4=2.5>>2.5\n#### 2.5", 2.5),
        ("The answer is: 3 3/4 hours, not 4", 3.75),
        (r"The answer is: \boxed{2\frac{1}{4}}", 2.25),
        (r"\boxed{7}", 7),
        (r"\boxed{7\text{ apples}}", 7),
        (r"\boxed{1\ 000}", 1000),
    ],
)
def test_what_models_write(text, expected):
    assert final_number(text) == expected


WHOLE = st.integers(0, 10**9)
MINUS = st.sampled_from(["", "-", "−", "–"])
GAPS = st.sampled_from([",", " ", "\u00a0", "\u2009", "\u202f", "{,}", r"\,"])
AROUND = st.sampled_from(
    [
        "{}",
        "so 7 of 8 and then {}.",
        "The answer is: {}\n\nQuestion: 5",
        "6/3 = 2 <<6/3=2>>\n#### {}",
        "Hence \\boxed{{{}}}, not 9",
        "about {} km",
        "It is {}%.",
    ]
)


@given(value=WHOLE, gap=GAPS, minus=MINUS, around=AROUND)
def test_thousands_in_groups(value, gap, minus, around):
    written = f"{minus}{value:,}".replace(",", gap)
    assert final_number(around.format(written)) == (-value if minus else value)


@given(value=WHOLE, decimals=st.integers(1, 4), minus=MINUS, money=st.booleans(), around=AROUND)
def test_decimals_and_money(value, decimals, minus, money, around):
    digits = f"{value / 10**decimals:,.{decimals}f}"
    written = f"{minus}{'$' if money else ''}{digits}"
    expected = float(digits.replace(",", ""))
    assert final_number(around.format(written)) == (-expected if minus else expected)


FORMS = ["{}/{}", r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", "{}⁄{}"]


@given(
    whole=st.integers(0, 999),
    part=st.tuples(st.integers(1, 99), st.integers(2, 99)).filter(lambda p: p[0] < p[1]),
    form=st.sampled_from(FORMS),
    minus=MINUS,
    around=AROUND,
)
def test_fractions_and_mixed_numbers(whole, part, form, minus, around):
    fraction = form.format(*part)
    blank = "" if fraction.startswith("\\") else " "
    written = f"{minus}{f'{whole}{blank}' if whole else ''}{fraction}"
    expected = float(whole + Fraction(*part))
    found = final_number(around.format(written))
    assert found == pytest.approx(-expected if minus else expected, rel=1e-12)


@given(
    mantissa=st.integers(1, 999),
    exponent=st.integers(-12, 12),
    form=st.sampled_from(
        [r"{} \times 10^{{{}}}", r"{}\cdot10^{{{}}}", "{}×10^{}", "{} x 10^{}", "{}e{}", "{}E{}"]
    ),
    minus=MINUS,
    around=AROUND,
)
def test_scientific_notation(mantissa, exponent, form, minus, around):
    found = final_number(around.format(f"{minus}{form.format(mantissa, exponent)}"))
    expected = mantissa * 10.0**exponent
    assert found == pytest.approx(-expected if minus else expected, rel=1e-12)


@given(st.integers(1, 999), st.integers(1, 999), st.sampled_from(["-", "–", "−", " to ", "—"]))
def test_the_end_of_a_range_has_no_sign(first, last, dash):
    assert final_number(f"from {first}{dash}{last}") == last


@given(st.dates())
def test_dates_are_not_glued(date):
    assert final_number(f"on {date:%Y-%m-%d}") == date.day
    assert final_number(f"on {date:%m/%d/%Y}") == date.year
