import pytest

from benchsuite.statistics import guide, stability_class, two_std_rule


@pytest.mark.parametrize(
    ("p", "d", "text"),
    [
        (0.0005, -0.9, "strong evidence, large effect"),
        (0.005, 0.6, "strong evidence, medium-large effect"),
        (0.04, 0.3, "moderate evidence, small-medium effect"),
        (0.2431, -0.645, "no significant difference (null result)"),
        (0.05, 3.0, "no significant difference (null result)"),
        (None, None, "no test"),
    ],
)
def test_the_calibration_documents_guide(p, d, text):
    assert guide(p, d) == text


def test_the_two_std_rule_on_the_documents_example():
    result = two_std_rule(82.45, 0.73, 78.21, 1.12)

    assert result.higher == "a"
    assert [round(x, 1) for x in result.range_a] == [81.0, 83.9]


def test_overlap_decides_nothing():
    assert two_std_rule(5.72, 0.08, 5.79, 0.12).higher is None
    assert not two_std_rule(5.72, None, 5.79, 0.12).defined


@pytest.mark.parametrize(
    ("std", "word"),
    [(0.73, "highly stable"), (1.0, "normal variation"), (2.0, "normal variation"), (2.1, "high")],
)
def test_stability_classes(std, word):
    assert stability_class(std).startswith(word)
    assert "unknown" in stability_class(None)
