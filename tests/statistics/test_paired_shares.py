"""Exact tests of paired proportions against an edge, by the whole list of tables."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from benchsuite.statistics.paired_shares import (
    MISSED,
    items_needed,
    loss_interval,
    p_above,
    p_below,
    power_below,
)


def tables(n):
    """Every number of lost and gained questions that n can have."""
    return [(a, b) for a, b in product(range(n + 1), repeat=2) if a + b <= n]


def chance(n, kept, loss, differing):
    """The probability of the tables that are kept, summed one by one."""
    lost, gained = (differing + loss) / 2, (differing - loss) / 2
    rows = np.array([(a, b, n - a - b) for a, b in kept])
    return float(multinomial.pmf(rows, n, [lost, gained, 1 - differing]).sum()) if kept else 0.0


@pytest.mark.parametrize(("n", "edge"), [(30, 0.1), (30, 0.01), (24, 0.0), (24, -0.1)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_level_is_held_whatever_share_differs(n, edge, alpha):
    rejected = [t for t in tables(n) if p_below(n, *t, edge) <= alpha]

    sizes = [
        chance(n, rejected, edge, float(differing))
        for differing in np.linspace(max(abs(edge), 0.005), 1, 60)
    ]

    assert max(sizes) <= alpha
    # Exact, but not for nothing: most of alpha is used where many differ.
    assert n * edge < 1 or max(sizes) > alpha / 2


@pytest.mark.parametrize("table", [(1, 3), (0, 0), (4, 1), (6, 6), (0, 12)])
@pytest.mark.parametrize("edge", [0.2, -0.1])
def test_a_p_value_is_the_chance_of_tables_as_extreme_at_the_worst_share(table, edge):
    n = 12

    def score(a, b):
        spread = max(a + b, n * abs(edge)) - n * edge**2
        return (a - b - n * edge) / math.sqrt(spread)

    kept = [t for t in tables(n) if score(*t) <= score(*table) + 1e-9]
    interval = binomtest(sum(table), n).proportion_ci(1 - MISSED, "exact")
    shares = np.linspace(max(interval.low, abs(edge)), interval.high, 400)
    worst = max(chance(n, kept, edge, float(share)) for share in shares)

    assert p_below(n, *table, edge) == pytest.approx(worst, rel=2e-3, abs=2 * MISSED)


def test_the_two_sides_are_each_other_with_base_and_candidate_exchanged():
    assert p_above(200, 9, 4, 0.01) == p_below(200, 4, 9, -0.01)


def test_no_question_that_differs_is_an_answer_at_enough_questions():
    enough = items_needed(0.01, loss=0.0, differing=0.0, alpha=0.05, power=0.9)

    assert 299 <= enough <= 400  # by the rule of three no fewer than 299
    assert p_below(enough, 0, 0, 0.01) <= 0.05 < p_below(enough // 2, 0, 0, 0.01)
    assert p_above(enough, 0, 0, 0.01) > 0.99


def test_all_questions_may_differ():
    assert p_below(50, 50, 0, 0.5) > 0.99
    assert p_above(50, 50, 0, 0.5) < 1e-5
    assert p_below(50, 0, 50, 0.01) < 1e-5


def test_many_questions_agree_with_the_normal_curve():
    # 8,564 is the textbook's n for a margin of 1 point where 1 in 10 differs.
    assert items_needed(0.01, loss=0, differing=0.1, alpha=0.05, power=0.9) == pytest.approx(
        8564, rel=0.02
    )
    z = -0.005 * 20_000 / math.sqrt(2_000)
    assert p_below(20_000, 1_000, 1_000, 0.005) == pytest.approx(
        0.5 * math.erfc(-z / math.sqrt(2)), rel=0.05
    )


@pytest.mark.parametrize(("edge", "loss", "differing"), [(0.15, 0.0, 0.1), (0.2, 0.05, 0.2)])
def test_the_questions_needed_have_the_power_that_was_asked(edge, loss, differing):
    n = items_needed(edge, loss=loss, differing=differing, alpha=0.05, power=0.8)
    rejected = [t for t in tables(n) if p_below(n, *t, edge) <= 0.05]

    power = chance(n, rejected, loss, differing)

    assert 0.78 <= power <= 0.88
    assert power_below(n, edge, loss=loss, differing=differing, alpha=0.05) == pytest.approx(
        power, abs=0.03
    )


def test_no_number_of_questions_shows_a_loss_at_the_edge_to_be_less():
    assert items_needed(0.01, loss=0.01, differing=0.1, alpha=0.05, power=0.9) is None
    assert items_needed(1e-6, loss=0.0, differing=0.5, alpha=0.05, power=0.9) is None


def test_the_interval_holds_the_edges_that_no_test_rejects():
    low, high = loss_interval(300, 14, 6, 0.05)

    assert p_below(300, 14, 6, high - 1e-4) > 0.05 > p_below(300, 14, 6, high + 1e-3)
    assert p_above(300, 14, 6, low + 1e-4) > 0.05 > p_above(300, 14, 6, low - 1e-3)
    assert low < 8 / 300 < high


@pytest.mark.parametrize("n", [20, 50, 178, 200, 250])
@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (0, 1), (3, 3)])
def test_no_edge_beyond_the_interval_is_kept(n, lost, gained):
    """More tables tie with what was seen at an edge of whole questions, so that p jumps there."""
    lower, upper = loss_interval(n, lost, gained, 0.05)
    for half in range(2, 30):
        edge = half / (2 * n)
        assert edge <= upper + 2e-5 or p_below(n, lost, gained, edge) <= 0.05
        assert -edge >= lower - 2e-5 or p_above(n, lost, gained, -edge) <= 0.05


def test_equal_answers_to_200_questions_leave_2_points_open_and_300_do_not():
    assert p_below(200, 0, 0, 0.02) > 0.05
    assert loss_interval(200, 0, 0, 0.05)[1] > 0.02
    assert p_below(300, 0, 0, 0.02) < 0.05
    assert loss_interval(300, 0, 0, 0.05)[1] < 0.02
