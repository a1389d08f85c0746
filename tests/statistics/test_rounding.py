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
