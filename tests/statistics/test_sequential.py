import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.statistics.inference.sequential import (
    SPENDING,
    looks_taken,
    nominal_levels,
    planned,
    sequential_p,
)
from benchsuite.study import identical, lower

FIFTHS = tuple(i / 5 for i in range(1, 6))
PLAN = planned((1, 2, 3, 4, 5), 20)


def z_of(levels, sides=2):
    return [-ndtri(level / sides) for level in levels]


# Critical values of five equal looks, two-sided alpha .05, as Lan and DeMets' program prints them
# (Reboussin, DeMets, Kim and Lan 2000).
@pytest.mark.parametrize(
    ("spending", "published"),
    [
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_the_published_boundaries(spending, published):
    assert z_of(nominal_levels(FIFTHS, spending=spending)) == pytest.approx(published, abs=2e-4)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("spending", SPENDING)
def test_all_looks_together_spend_alpha(spending, sides):
    rng, rounds = np.random.default_rng(0), 200_000
    looks = (2, 3, 7, 10)
    levels = nominal_levels(tuple(n / 10 for n in looks), spending=spending, sides=sides)
    walk = rng.normal(size=(rounds, 10)).cumsum(axis=1)
    scores = np.stack([walk[:, n - 1] / np.sqrt(n) for n in looks])
    beyond = scores if sides == 1 else np.abs(scores)

    stopped = (beyond > np.array(z_of(levels, sides))[:, None]).any(axis=0).mean()

    assert stopped == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / rounds))


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("look", [0, 2])
def test_the_sequential_p_is_the_alpha_whose_level_was_met(look, joint):
    fractions = PLAN.fractions
    level = nominal_levels(fractions, alpha=0.02, joint=joint)[look]
    p_values = [None] * look + [level]

    assert sequential_p(p_values, fractions, joint=joint)[look] == pytest.approx(0.02, rel=2e-3)


def test_one_look_is_the_test_itself():
    assert sequential_p([0.0312], (1.0,)) == pytest.approx([0.0312], rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.sampled_from(sorted(SPENDING)))
def test_looking_more_than_once_never_lowers_a_p_value(p_values, spending):
    found = sequential_p(p_values, PLAN.fractions, spending=spending)

    assert all(p <= q <= 1 for p, q in zip(p_values, found, strict=True))


# Neither test may reject more often than alpha, at three seeds or more: the paired one would with
# boundaries of the joint normal distribution.
@pytest.mark.parametrize(("test", "joint"), [("welch", True), ("paired", False)])
@pytest.mark.parametrize("looks", [(3, 6, 9, 12), (5, 10, 15, 20)])
def test_t_tests_keep_alpha_over_the_looks(test, joint, looks):
    rng, rounds = np.random.default_rng(1), 40_000
    levels = nominal_levels(tuple(n / looks[-1] for n in looks), joint=joint)
    a, b = rng.normal(size=(2, rounds, looks[-1]))
    stopped = np.zeros(rounds, bool)
    for n, level in zip(looks, levels, strict=True):
        x, y = a[:, :n], b[:, :n]
        if test == "welch":
            stopped |= stats.ttest_ind(x, y, axis=1, equal_var=False).pvalue < level
        else:
            stopped |= stats.ttest_rel(x, y, axis=1).pvalue < level

    assert stopped.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)


def test_a_plan_adds_as_many_seeds_as_were_declared():
    plan = planned((42, 43, 44), 8)

    assert plan.looks == (3, 6, 8)
    assert plan.seeds == (42, 43, 44, 45, 46, 47, 48, 49)
    assert looks_taken(plan, {42, 43, 44, 45, 46, 47, 99}) == 2
    with pytest.raises(ValueError, match="make no plan"):
        planned((42, 43, 44), 2)


def question(n, shift, rng_seed=0):
    rng = np.random.default_rng(rng_seed)
    a, b = rng.normal(5.0 + shift, 0.1, 20), rng.normal(5.0, 0.1, 20)
    arms = (Arm({s: float(x[s - 1]) for s in range(1, n + 1)}) for x in (a, b))
    return Question(lower("perplexity", "a", than="b"), "m", *arms)


def test_a_decided_comparison_keeps_the_look_that_decided_it():
    (early,) = judge_family([question(20, -1.0)], plan=PLAN)

    assert early.outcome == "held"
    assert early.evidence["n"] == 5
    assert "after looks at 5, 10, 15, 20 seeds of at most 20" in early.sentence


def test_an_open_comparison_pays_for_its_looks():
    (at_once,) = judge_family([question(10, -0.06, rng_seed=3)])
    (looked,) = judge_family([question(10, -0.06, rng_seed=3)], plan=PLAN)

    assert looked.evidence["n"] == 10
    assert looked.evidence["p_value"] == pytest.approx(at_once.evidence["p_value"])
    assert looked.evidence["p_holm"] > at_once.evidence["p_value"]


def test_seeds_of_an_unfinished_look_do_not_count():
    (judged,) = judge_family([question(8, -0.06)], plan=PLAN)

    assert judged.evidence["n"] == 5


def test_claims_that_compare_nothing_take_all_seeds():
    same = Question(identical("weights_sha256", "a"), "m", Arm(dict.fromkeys(range(1, 9), "x")))

    (judged,) = judge_family([same], plan=PLAN)

    assert (judged.outcome, judged.evidence["n"]) == ("held", 8)
