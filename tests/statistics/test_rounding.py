import pytest

from benchsuite.statistics import rounding


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (5.7234, 0.0812, "5.72 ± 0.08"),
        (5.7871, 0.1194, "5.79 ± 0.12"),
        (5.7, 0.0312, "5.700 ± 0.031"),
        (5.7, 0.0958, "5.70 ± 0.10"),
        (123.4, 12.3, "123 ± 12"),
        (12345.0, 678.0, "12345 ± 678"),
        (5.7, 0.0, "5.7000 ± 0"),
        (5.7, None, "5.7000"),
        (-0.04, 0.2, "−0.04 ± 0.20"),
        (None, None, "–"),
    ],
)
def test_digits_follow_the_uncertainty(mean, std, text):
    assert rounding.with_uncertainty(mean, std) == text


def test_interval():
    assert rounding.with_interval(-0.071, -0.2218, 0.0798) == "−0.07 [−0.22, 0.08]"
    assert rounding.with_interval(0.25, 0.25, 0.25) == "0.2500 (exact)"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.2431, "p = 0.243"), (0.00312, "p = 0.0031"), (1e-9, "p < 0.0001"), (None, "no p-value")],
)
def test_p_values(p, text):
    assert rounding.p_text(p) == text


def test_no_negative_zero():
    assert rounding.signed(-0.0001) == "0.00"
    assert rounding.short(0.2522) == "0.25"


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (1.1e56, 2e55, "1.10e+56 ± 2.0e+55"),  # not 57 digits
        (3.2e-9, 1.2e-10, "3.20e-09 ± 1.2e-10"),  # not 0.00000000 ± 0.00000000
        (5.7, 1.6e-16, "5.7000 ± 1.6e-16"),  # seeds that differ do not show a std of 0
        (0.0, 1e-12, "0 ± 1.0e-12"),
        (12345678.0, 1234.0, "12345678 ± 1234"),
        (-3.2e-9, 1.2e-10, "−3.20e-09 ± 1.2e-10"),
        (1e-320, 5e-324, "1.000e-320 ± 4.9e-324"),  # a power of ten that float64 has not
    ],
)
def test_numbers_that_decimals_cannot_show_have_powers(mean, std, text):
    assert rounding.with_uncertainty(mean, std) == text
    shown = rounding.with_interval(mean, mean - std, mean + std)
    assert len(shown) < 50
    assert rounding.signed(2.1e15) == "2.10e+15"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-2.5, "−2.5000"),
        (999.5, "999.5000"),
        (1000.0, "1000.0"),
        (1e6, "1.000e+06"),
        (0.0001, "0.0001"),
        (0.00009, "9.000e-05"),
    ],
)
def test_a_number_alone_has_four_decimals_or_four_digits(value, text):
    assert rounding.plain(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (3.14, "3.1"), (31.4, "31"), (0.00314, "0.0031"), (3.14e-12, "3.1e-12")),
        *((125.0, "125"), (31415.9, "31416"), (3.14e7, "3.1e+07")),
    ],
)
def test_prose_has_two_digits_or_whole_numbers(value, text):
    assert rounding.short(value) == text


def test_a_large_number_that_is_known_well_keeps_its_digits():
    assert rounding.with_uncertainty(2.5e9, 0.125) == "2500000000.00 ± 0.12"
    assert rounding.with_uncertainty(2.5e9, 1e8) == "2.50e+09 ± 1.0e+08"
