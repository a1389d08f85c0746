"""Mean ranks, Friedman's and Nemenyi's tests against Demsar's own example and scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics.ranks import critical_difference, rank_methods

# Demsar 2006, table 6: AUC on 14 data sets. "voting" has the order of the unrounded values.
DEMSAR = {
    "C4.5": [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957],
    "C4.5+m": [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978],
    "C4.5+cf": [771, 590, 968, 654, 886, 916, 609, 563, 866, 1000, 965, 614, 975, 946],
    "C4.5+m+cf": [798, 569, 967, 657, 898, 931, 685, 625, 875, 1000, 962, 669, 974, 970],
}
TABLE = {f"set {i}": {k: v[i] for k, v in DEMSAR.items()} for i in range(14)}


def test_demsars_example():
    found = rank_methods(TABLE, lower_is_better=False)

    ranks = {"C4.5": 3.143, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert found.mean_ranks == pytest.approx(ranks, abs=5e-4)
    # The paper's 9.28 is not corrected for ties: a pair, a pair, all four, a pair.
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1))
    assert found.statistic * ties == pytest.approx(9.28, abs=5e-3)
    chi = found.statistic
    assert found.f == pytest.approx(13 * chi / (14 * 3 - chi))
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)


def test_the_tests_are_scipys():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 4)) + np.arange(4)
    table = {f"m{i}": dict(zip("abcd", row.tolist(), strict=True)) for i, row in enumerate(values)}

    found = rank_methods(table, lower_is_better=True)

    reference = stats.friedmanchisquare(*values.T)
    assert (found.statistic, found.p_chi) == pytest.approx(tuple(reference))
    assert found.mean_ranks["a"] < found.mean_ranks["d"]


def test_nemenyis_p_is_of_the_studentized_range():
    pytest.importorskip("scikit_posthocs")
    found = rank_methods(TABLE, lower_is_better=False)
    for (one, two), p in found.pairs.items():
        gap = abs(found.mean_ranks[one] - found.mean_ranks[two])
        q = gap / math.sqrt(4 * 5 / (6 * 14)) * math.sqrt(2)
        assert p == pytest.approx(stats.studentized_range.sf(q, 4, math.inf), abs=1e-4)
        assert (p < 0.05) == (gap > found.critical_difference)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_values_are_demsars_table_5(k, q):
    assert critical_difference(k, 20) == pytest.approx(q * math.sqrt(k * (k + 1) / 120), abs=5e-4)


def test_models_that_all_agree_have_an_exact_p():
    table = {m: {"a": 1.0, "b": 2.0, "c": 3.0} for m in ("x", "y", "z")}
    found = rank_methods(table, lower_is_better=True)
    assert found.f is None
    assert found.p_value == pytest.approx(1 / 36)


def test_what_agrees_but_for_ties_is_that_likely():
    """Two methods that always tie have three orders, not six: p was .005 for .037."""
    table = {m: {"a": 1.0, "b": 1.0, "c": 2.0} for m in "wxyz"}
    assert rank_methods(table, lower_is_better=True).p_value == pytest.approx(3**-3)


@pytest.mark.parametrize(("n", "k"), [(3, 3), (2, 4)])
def test_the_p_value_is_that_of_all_orders(n, k):
    """Iman and Davenport's F gives .049 for the second of 3 by 3, which chance gives in .194."""
    orders = [dict(zip("abcde", order, strict=False)) for order in itertools.permutations(range(k))]
    found = [
        rank_methods(dict(enumerate(rows)), lower_is_better=True).p_value
        for rows in itertools.product(orders[:1], *[orders] * (n - 1))
    ]
    for p in set(found):
        assert np.mean(np.array(found) <= p + 1e-9) == pytest.approx(p)


def test_many_orders_are_drawn():
    found = rank_methods(TABLE, lower_is_better=False)
    exact = stats.f.sf(found.f, 3, 39)  # good for fourteen sets
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found == rank_methods(TABLE, lower_is_better=False)
    broken = {**TABLE, "set 3": {**TABLE["set 3"], "C4.5": math.nan}}
    assert "not finite" in rank_methods(broken, lower_is_better=False).reason


def test_without_scikit_posthocs_the_rest_stands(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scikit_posthocs", None)
    found = rank_methods(TABLE, lower_is_better=False)
    assert found.critical_difference is not None
    assert found.pairs == {}
    assert "pip install 'benchsuite[statistics]'" in found.reason


def test_two_methods_or_one_model_have_no_ranks():
    assert rank_methods({"m": {"a": 1, "b": 2, "c": 3}}, lower_is_better=True).reason
    assert rank_methods(
        {"m": {"a": 1, "b": 2}} | {"n": {"a": 1, "b": 2}}, lower_is_better=True
    ).reason
    equal = rank_methods({m: dict.fromkeys("abc", 1.0) for m in "xyz"}, lower_is_better=True)
    assert equal.statistic is None
