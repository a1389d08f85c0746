"""Answers over models against references computed another way."""

import importlib.util
import itertools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchsuite.statistics import mixed
from benchsuite.statistics.over_models import compare_over_models

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/over_models_simulated.py"


def drawn(models=7, seeds=5, d=0.8, slope=1.0, rng_seed=0):
    """Two methods whose difference varies from model to model, seeds unrelated."""
    rng = np.random.default_rng(rng_seed)
    arms = {}
    for m in range(models):
        one, two = rng.normal(size=(2, seeds))
        gain = d + slope * rng.normal()
        arms[f"m{m}"] = (dict(enumerate(one - gain)), dict(enumerate(two)))
    return arms


def means(arms):
    return np.array(
        [np.mean([*one.values()]) - np.mean([*two.values()]) for one, two in arms.values()]
    )


def test_where_models_vary_most_the_mixed_model_is_t_over_their_means():
    """Balanced data and a slope's variance above zero: the textbook's F with n - 1 degrees."""
    arms = drawn(slope=2.0)

    found = compare_over_models(arms)

    reference = stats.ttest_1samp(means(arms), 0)
    low, high = reference.confidence_interval()
    assert found.test == "mixed_model"
    assert found.difference == pytest.approx(means(arms).mean())
    assert found.df == pytest.approx(6, abs=0.01)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-3)
    assert (found.ci_low, found.ci_high) == pytest.approx((low, high), rel=1e-3)


def test_where_they_do_not_vary_it_is_students_test_within_models():
    """All other variances at zero: the rest is estimated from all values, each about its arm."""
    arms = drawn(slope=0.0, rng_seed=3)
    rows = [np.array([*arm.values()]) for pair in arms.values() for arm in pair]

    found = compare_over_models(arms)

    assert (
        max(v for k, v in found.variances.items() if k != "rest") < 1e-4 * found.variances["rest"]
    )
    centred = np.concatenate([row for row in rows])
    model = np.repeat(np.arange(7), 10)
    method = np.tile(np.repeat([0.5, -0.5], 5), 7)
    design = np.column_stack([model[:, None] == np.arange(7), method]).astype(float)
    solution, rss, *_ = np.linalg.lstsq(design, centred, rcond=None)
    error = math.sqrt(rss[0] / 62 * np.linalg.inv(design.T @ design)[-1, -1])
    assert found.difference == pytest.approx(solution[-1])
    assert found.error == pytest.approx(error, rel=1e-3)
    assert found.df == pytest.approx(62, abs=0.1)


def test_pairs_and_a_method_without_seeds_are_tested_by_their_differences():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(5, 4)) * 10
    gains = rng.normal(size=5)
    arms = {
        f"m{m}": (
            dict(enumerate(shared[m] + gains[m] + 0.01 * rng.normal(size=4))),
            dict(enumerate(shared[m])),
        )
        for m in range(5)
    }

    found = compare_over_models(arms, by_seed=True)

    reference = stats.ttest_1samp(means(arms), 0)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-3)
    still = {m: (one, {42: 0.0}) for m, (one, _) in drawn(slope=5.0, rng_seed=1).items()}
    assert compare_over_models(still).p_value == pytest.approx(
        stats.ttest_1samp(means(still), 0).pvalue, rel=0.02
    )


def test_seeds_that_move_all_models_alike_widen_the_interval():
    """Five seeds remain five, on however many models: t over the models' means does not know."""
    rng = np.random.default_rng(0)
    # Against each other, so that no seed is good or bad for both methods.
    moved = np.array([[-1.2, -0.4, 0.1, 0.6, 1.1], [0.9, 0.7, 0.2, -0.5, -1.0]])
    arms = {
        f"m{m}": tuple(dict(enumerate(row + 0.05 * rng.normal(size=5))) for row in moved)
        for m in range(8)
    }

    found = compare_over_models(arms)

    # Of the means of two groups of five: Student's test over seeds.
    by_seed = [np.mean([[*pair[i].values()] for pair in arms.values()], axis=0) for i in (0, 1)]
    assert found.error == pytest.approx(
        math.sqrt(sum(x.var(ddof=1) for x in by_seed) / 5), rel=0.02
    )
    assert found.df == pytest.approx(8, abs=1)
    assert stats.ttest_1samp(means(arms), 0).pvalue < found.p_value


def test_wilcoxon_and_what_it_cannot_reach():
    arms = drawn()
    found = compare_over_models(arms)
    assert found.wilcoxon_p == stats.wilcoxon(means(arms)).pvalue
    assert found.wilcoxon_least == 2 / 2**7
    assert compare_over_models(drawn(models=3, d=9)).wilcoxon_p == 0.25


def test_the_probability_of_improvement_counts_pairs():
    arms = drawn(seeds=4)
    wins = [
        (a < b) + 0.5 * (a == b)
        for one, two in arms.values()
        for a, b in itertools.product(one.values(), two.values())
    ]
    p, low, high = compare_over_models(arms).lower_probability
    assert p == pytest.approx(np.mean(wins))
    assert low < p < high
    reference = [
        1 - stats.mannwhitneyu([*one.values()], [*two.values()]).statistic / 16
        for one, two in arms.values()
    ]
    assert p == pytest.approx(np.mean(reference))


def test_the_interquartile_mean_forgets_a_diverged_run():
    arms = drawn(slope=0)
    before = compare_over_models(arms).iqm[0]
    arms["m0"][0][0] += 1000
    after = compare_over_models(arms)
    assert abs(after.iqm[0] - before) < 0.2
    assert after.difference > 10


def test_perplexities_are_compared_as_ratios():
    """A model of ten times the perplexity does not weigh ten times as much."""
    small = drawn(slope=0.1)
    scaled = {}
    for i, (model, pair) in enumerate(small.items()):
        scaled[model] = tuple({s: 10**i * math.exp(v) for s, v in arm.items()} for arm in pair)

    found, reference = compare_over_models(scaled, log=True), compare_over_models(small)

    assert found.log
    assert found.difference == pytest.approx(reference.difference)
    # Its optimum is flat; the variances agree as far as the search goes.
    assert found.p_value == pytest.approx(reference.p_value, rel=0.05)


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ({"m": ({1: 1.0}, {1: 2.0})}, "one model"),
        ({"a": ({1: math.nan}, {1: 2.0}), "b": ({1: 1.0}, {1: 2.0})}, "not finite"),
        ({"a": ({1: 0.0}, {1: 2.0}), "b": ({1: 1.0}, {1: 2.0})}, "no logarithm"),
        ({"a": ({}, {1: 2.0}), "b": ({1: 1.0}, {1: 2.0})}, "n = 0"),
    ],
)
def test_what_has_no_answer_says_why(arms, words):
    found = compare_over_models(arms, log=True)
    assert words in found.reason
    assert found.p_value is None


def test_equal_differences_have_no_test():
    found = compare_over_models({m: ({1: 1.0}, {1: 2.0}) for m in "abc"})
    assert found.difference == -1
    assert found.p_value is None
    assert "do not differ" in found.reason


def test_values_whose_squares_are_nothing_have_no_test():
    arms = {m: (dict(enumerate(one)), dict(enumerate(two))) for m, one, two in _tiny()}
    found = compare_over_models(arms)
    assert found.p_value is None
    assert "out of the range" in found.reason


def _tiny():
    """Probabilities of whole texts, say."""
    rng = np.random.default_rng(0)
    return [(m, *(1e-170 * rng.normal(2, 0.1, (2, 5)))) for m in "ab"]


@pytest.mark.parametrize("trial", range(6))
def test_the_fit_is_that_of_statsmodels_or_more_likely(trial):
    linear = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    rng = np.random.default_rng(trial)
    slope, shared, gaps = ((0.0, 0.0, 0.2), (1.0, 0.0, 0.0), (0.5, 2.0, 0.2))[trial % 3]
    gains, moved = slope * rng.normal(size=5), shared * rng.normal(size=(4, 2))
    cells = itertools.product(range(5), range(4), ((True, 0.5), (False, -0.5)))
    rows = [
        mixed.Row(f"m{m}", s, first, value + rng.normal())
        for m, s, (first, half) in cells
        for value in [9 * m + half * (1 + gains[m]) + moved[s, 0 if first else 1]]
        if rng.random() > gaps
    ]
    design, random = mixed._design(rows, shared=True)
    names = list(random)
    columns = [[[str(i) for i in range(random[name].shape[1])]] for name in names]
    spec = linear.VCSpec(names, columns, [[random[name]] for name in names])
    values = [row.value for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = linear.MixedLM(values, design, np.zeros(len(rows)), exog_re=None, exog_vc=spec)
        reference = model.fit(reml=True, method=["powell"])

    likelihood = mixed._Likelihood(np.array(values), design, list(random.values()))
    best = mixed._fitted(rows, shared=True)
    roots = np.sqrt([best.variances[name] / best.variances["rest"] for name in names])
    theirs = likelihood.at(np.sqrt(reference.vcomp / reference.scale))
    assert theirs.effect == pytest.approx(reference.fe_params[-1], abs=1e-6)
    assert theirs.residual == pytest.approx(reference.scale, rel=1e-6)
    assert likelihood.at(roots).value > theirs.value - 1e-6
    assert best.difference == pytest.approx(reference.fe_params[-1], abs=0.01)
    assert best.variances["rest"] == pytest.approx(reference.scale, rel=0.02)


def test_one_seed_an_arm_is_tested_over_the_models():
    arms = drawn(seeds=1)
    found = compare_over_models(arms)
    assert found.test == "t_over_models"
    assert found.p_value == pytest.approx(stats.ttest_1samp(means(arms), 0).pvalue)


def tost_by_hand(differences, margin):
    """Two one-sided t-tests over the models' means, by scipy."""
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    beyond = min(
        stats.ttest_1samp(differences, margin, alternative="greater").pvalue,
        stats.ttest_1samp(differences, -margin, alternative="less").pvalue,
    )
    return max(above, below), beyond


def test_a_mean_difference_is_held_against_the_mean_of_the_models_margins():
    arms = {m: ({0: a[0] + 20}, {0: b[0] + 20}) for m, (a, b) in drawn(seeds=1, d=0.5).items()}

    found = compare_over_models(arms, margin_of=lambda mean: mean / 10)

    assert found.margin == pytest.approx(np.mean([two[0] / 10 for _, two in arms.values()]))
    expected = tost_by_hand(means(arms), found.margin)
    assert (found.p_within, found.p_beyond) == pytest.approx(expected)


def test_a_margin_of_logarithms_is_the_same_ratio_both_ways():
    """Of perplexities on different scales one percent is one ratio, .2 is another on each."""
    arms = {m: ({0: math.exp(a[0])}, {0: math.exp(b[0])}) for m, (a, b) in drawn(seeds=1).items()}
    logs = np.array([math.log(one[0] / two[0]) for one, two in arms.values()])

    relative = compare_over_models(arms, log=True, margin_of=lambda mean: 0.25 * mean)
    absolute = compare_over_models(arms, log=True, margin_of=lambda mean: 0.2)

    assert relative.margin == pytest.approx(math.log(1.25))
    assert (relative.p_within, relative.p_beyond) == pytest.approx(
        tost_by_hand(logs, math.log(1.25))
    )
    assert absolute.margin == pytest.approx(
        np.mean([math.log(1 + 0.2 / two[0]) for _, two in arms.values()])
    )


@pytest.mark.stress
def test_seven_models_show_what_one_does_not_and_null_ones_seldom_do():
    """A small round of the script whose table is in the docs."""
    spec = importlib.util.spec_from_file_location("over_models_simulated", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rounds, rng = 24, np.random.default_rng(2)

    real = script.simulate(rng, rounds, 7, 5, 0.8, 0.0, 0.0, False)
    null = script.simulate(rng, rounds, 7, 5, 0.0, 0.5, 0.5, False)

    error = math.sqrt(0.25 / rounds)
    assert real["single"] < 0.3
    assert real["mixed"] > 0.75 - 3 * error
    assert null["mixed"] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)

    edge = script.at_the_margin(rng, rounds, 7, 5, 0.5, 0.0, 0.5, 1.0)
    alike = script.at_the_margin(rng, rounds, 7, 5, 0.0, 0.0, 1.0, 0.0)
    assert edge["within"] + edge["beyond"] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert alike["within"] > 0.8 - 3 * error


def test_a_seed_without_its_twin_is_left_out_and_never_mixed_with_differences():
    """Seeds may be added to one method alone; such a model's values once stood beside others'
    differences of pairs, as ten times the mean difference."""
    rng = np.random.default_rng(0)
    arms = {
        model: tuple({s: 10 + rng.normal(0, 0.1) for s in range(5)} for _ in range(2))
        for model in ("a", "b", "c")
    }
    longer = {**arms, "b": ({**arms["b"][0], 5: 11.0, 6: 9.0}, arms["b"][1])}

    for order in (["a", "b", "c"], ["b", "c", "a"]):
        found = compare_over_models({m: longer[m] for m in order}, by_seed=True)
        expected = compare_over_models({m: arms[m] for m in order}, by_seed=True)
        assert found.difference == pytest.approx(means(arms).mean())
        assert found.p_value == pytest.approx(expected.p_value)
        assert found.per_model == pytest.approx(expected.per_model)
        assert found.reason == (
            "seeds that one method alone has are no pairs and are left out: 5, 6 of b"
        )
    assert expected.reason == ""
    apart = {**arms, "b": (arms["b"][0], {9: 10.0})}
    assert "n = 0 for b" in compare_over_models(apart, by_seed=True).reason
