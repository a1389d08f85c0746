"""The source documents' own interpretation guides, as they print them."""

from dataclasses import dataclass


def evidence_label(p_value: float | None) -> str:
    """Return the COLA-Zero study's word for a p-value: strong, moderate, none."""
    if p_value is None:
        return "no test"
    if p_value < 0.01:
        return "strong evidence"
    return "moderate evidence" if p_value < 0.05 else "no significant difference (null result)"


def effect_label(d: float | None) -> str:
    """Return the word for \\|d\\|: Cohen's .2, .5, .8, with the COLA-Zero study's between them."""
    if d is None:
        return "effect without a unit"
    size = abs(d)
    if size > 0.8:
        return "large effect"
    if size >= 0.5:
        return "medium-large effect"
    return "small-medium effect" if size >= 0.2 else "negligible effect"


def guide(p_value: float | None, d: float | None) -> str:
    """Return the COLA-Zero study's interpretation of a p-value and Cohen's d.

    Its table pairs each p-value with one range of d; evidence and size are read separately here,
    because with few seeds a significant effect is nearly always a large one.
    """
    evidence = evidence_label(p_value)
    if p_value is None or p_value >= 0.05:
        return evidence
    return f"{evidence}, {effect_label(d)}"


@dataclass(frozen=True)
class TwoStd:
    """The two-std rule's answer: the ranges mean +- 2 std, and which arm is higher (or None)."""

    range_a: tuple[float, float] | None
    range_b: tuple[float, float] | None
    higher: str | None
    defined: bool
    reason: str


def two_std_rule(
    mean_a: float | None, std_a: float | None, mean_b: float | None, std_b: float | None
) -> TwoStd:
    """Apply the KaVa guide's rule: no overlap of mean +- 2 std.

    With equal spreads that asks for d >= 4: conservative, and no substitute for a test.
    """
    if mean_a is None or std_a is None or mean_b is None or std_b is None:
        return TwoStd(None, None, None, False, "a mean or a standard deviation is missing")
    a, b = (mean_a - 2 * std_a, mean_a + 2 * std_a), (mean_b - 2 * std_b, mean_b + 2 * std_b)
    if a[0] > b[1]:
        return TwoStd(a, b, "a", True, "the ranges do not overlap")
    if b[0] > a[1]:
        return TwoStd(a, b, "b", True, "the ranges do not overlap")
    return TwoStd(a, b, None, True, "the ranges overlap")


def stability_class(std_points: float | None) -> str:
    """Return the KaVa guide's class for a std in percentage points of accuracy."""
    if std_points is None:
        return "unknown: one seed has no standard deviation"
    if std_points < 1:
        return "highly stable"
    return "normal variation" if std_points <= 2 else "high variance"
