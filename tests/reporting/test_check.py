import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from benchsuite import reporting
from benchsuite.reporting import summarise
from benchsuite.study import study
from tests.reporting.factory import CALIBRATION, drawn, grid

SCRIPT = Path(__file__).parents[2] / "benchmarks/speed/check_simulated.py"
DOCUMENT = {
    "llama-2-7b-hf": {
        "cola_zero": {
            "ppl": {"mean": 5.72, "std": 0.08, "cv_percent": 1.4, "min": 5.65, "max": 5.82},
            "times": {"selection_time_sec_mean": 167.3, "quant_time_sec_mean": 758.2},
        },
        "random": {
            "ppl": {"mean": 5.79, "std": 0.12, "cv_percent": 2.1, "min": 5.68, "max": 5.94},
            "times": {"selection_time_sec_mean": 11.8, "quant_time_sec_mean": 742.1},
        },
        "ttest_cola_zero_vs_random": {"t_stat": -1.285, "p_value": 0.2431, "cohens_d": -0.645},
    }
}


def check_summary(data, **given):
    return reporting.check_summary(data, **given).findings


def with_test(t, p, d):
    changed = copy.deepcopy(DOCUMENT)
    test = {"t_stat": t, "p_value": p, "cohens_d": d}
    changed["llama-2-7b-hf"]["ttest_cola_zero_vs_random"] = test
    return changed


def test_the_documents_own_example_is_flagged():
    (finding,) = check_summary(DOCUMENT)

    assert finding.where == "llama-2-7b-hf, ttest_cola_zero_vs_random"
    assert "no number of seeds explains" in finding.message
    fits = finding.would_fit["n = 5"]
    assert fits["t"] == pytest.approx(-1.085, abs=5e-4)
    assert fits["p_student"] == pytest.approx(0.3094, abs=5e-5)
    assert fits["p_welch"] == pytest.approx(0.3139, abs=5e-5)
    assert fits["d"] == pytest.approx(-0.686, abs=5e-4)


def test_with_its_five_seeds_the_example_says_which_numbers_disagree():
    about_d, about_p = check_summary(DOCUMENT, n=5)

    assert "d = −0.645 does not belong to t = −1.285" in about_d.message
    assert about_d.would_fit["d"] == pytest.approx(-1.285 * (2 / 5) ** 0.5)
    assert "p = 0.2431 does not belong to t = −1.285" in about_p.message


@pytest.mark.parametrize("p", [0.3094, 0.3139])
def test_what_should_have_been_printed_passes(p):
    assert check_summary(with_test(-1.085, p, -0.686), n=5) == []
    assert check_summary(with_test(-1.085, p, -0.686)) == []


def test_a_flat_summary_is_read_too():
    flat = {"mean": [5.72, 5.79], "std": [0.08, 0.12], "n": 5, "t": -1.285, "p": 0.2431}

    (finding,) = check_summary(flat)
    assert "p = 0.2431" in finding.message
    assert check_summary(flat | {"t": -1.085, "p": 0.3094, "d": -0.686}) == []


def test_t_must_follow_from_the_means():
    numbers = {"mean": [5.72, 5.79], "std": [0.08, 0.12], "n": 5, "t": -4.2}

    (finding,) = check_summary(numbers | {"test": "Welch's t-test"})

    assert "does not follow from the means" in finding.message
    assert finding.would_fit["t"] == pytest.approx(-1.085, abs=5e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cv_percent": 2.4}, "cv 2.4 %"),
        ({"mean": 5.97}, "outside min"),
        ({"std": 0.19}, "impossible"),
        ({"std": 0.01}, "impossible"),
    ],
)
def test_impossible_descriptions(change, words):
    changed = copy.deepcopy(DOCUMENT)
    arm = changed["llama-2-7b-hf"]["random"]["ppl"]
    arm |= change
    if "cv_percent" not in change:
        arm["cv_percent"] = round(100 * arm["std"] / arm["mean"], 1)
    del changed["llama-2-7b-hf"]["ttest_cola_zero_vs_random"]

    (finding,) = check_summary(changed, n=5)

    assert words in finding.message


def test_our_own_summaries_pass():
    cells = grid("tiny_llama_1m", "llama2_7b")
    summary = summarise(study(CALIBRATION), cells, drawn(cells))

    assert check_summary(json.loads(json.dumps(summary))) == []


def test_our_own_summary_edited_by_hand_does_not():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    summary = summarise(study(CALIBRATION), cells, drawn(cells))
    summary["llama-2-7b-hf"]["ttest_cola_zero_vs_random"]["p_value"] /= 2

    assert check_summary(summary)


samples = st.lists(st.floats(5, 6).map(lambda x: round(x, 4)), min_size=3, max_size=8)


@given(samples, st.integers(0, 10), st.sampled_from([2, 3, 4]), st.booleans())
def test_honest_rounding_is_never_flagged(values, rng_seed, decimals, equal_variances):
    a = np.asarray(values)
    b = a[::-1] + np.random.default_rng(rng_seed).normal(0, 0.1, len(a))
    assume(a.std() > 1e-3)
    test = stats.ttest_ind(a, b, equal_var=equal_variances)
    pooled = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    numbers = {
        "mean": [round(float(a.mean()), decimals), round(float(b.mean()), decimals)],
        "std": [round(float(a.std(ddof=1)), decimals), round(float(b.std(ddof=1)), decimals)],
        "t": round(float(test.statistic), 3),
        "p": round(float(test.pvalue), 4),
        "d": round(float((a.mean() - b.mean()) / pooled), 3),
    }

    assert check_summary(numbers | {"n": len(a)}) == []
    assert check_summary(numbers) == []


FLAT = {"mean": [5.72, 5.79], "std": [0.08, 0.12], "n": 5, "t": -1.085, "p": 0.3094, "d": -0.686}
LATENT = {
    "gsm8k": {
        "accuracy_mean": 82.45,
        "accuracy_std": 0.73,
        "forward_passes_mean": 48.2,
        "forward_passes_std": 1.1,
        "n_seeds": 3,
    }
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": [5, 7]}, "with n = 5 and 7"),
        ({"p": 1.3}, "p = 1.3 lies outside 0 to 1"),
        ({"std": [-0.08, 0.12]}, "std -0.08 is negative"),
        ({"t": None, "p": None, "d": -0.9}, "d = −0.900 does not follow from the means"),
        ({"ci95": [-0.31, 0.08]}, "is not around"),
        ({"ci95": [-0.12, -0.02]}, "reaches 0.05 to each side"),
        ({"p_holm": 0.2}, "p_holm = 0.2 does not belong to p = 0.3094"),
        ({"p_holm": 0.95, "family_size": 2}, "at most 0.6188"),
        ({"df": 12}, "df 12 does not belong to n = 5 an arm"),
        ({"t": "−1.985"}, "t = −1.985 does not follow"),
        ({"hedges_g": -0.9, "test": "student"}, "g = −0.900 does not belong to d"),
    ],
)
def test_each_altered_number_of_a_comparison_is_found(change, words):
    found = check_summary(FLAT | change)

    assert any(words in finding.message for finding in found), [f.message for f in found]


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"mean": 5.72, "std": 0.08, "n": 5, "seeds": [42, 43, 44]}, "3 seeds are listed"),
        ({"mean": 5.84, "std": 0.16, "values": [5.61, 5.70, 5.92]}, "is not that of the 3 values"),
        ({"mean": 5.72, "std": 0.08, "n": 5, "ci95": [5.70, 5.74]}, "95 % interval"),
        ({"mean": 5.72, "std": 0.08, "n": 1}, "one value has no standard deviation"),
        ({"accuracy_mean": 82.45, "accuracy_std": 70.7, "n_seeds": 3}, "impossible"),
        ({"accuracy_mean": 82.45, "accuracy_std": 2.7, "stability": "highly stable"}, "high varia"),
        ({"accuracy": 41.3, "n_items_asked": 61}, "no whole number"),
        ({"GSM8k Acc (%)": "55.1 ± 0.7", "Published [S]": "56.5", "Difference": "2.1"}, "publish"),
    ],
)
def test_each_altered_number_of_an_arm_is_found(arm, words):
    (finding,) = check_summary({"model": {"method": arm}})

    assert words in finding.message


def test_a_t_interval_passes_and_so_does_a_normal_one():
    # 2.776 and 1.960 times .08 / sqrt(5)
    for half in (0.0993, 0.0701):
        arm = {"mean": 5.72, "std": 0.08, "n": 5, "ci95": [5.72 - half, 5.72 + half]}
        assert reporting.check_summary([arm]).passed


def test_a_paired_test_that_is_not_named_is_no_contradiction():
    # scipy.stats.ttest_rel([5.65, 5.7, 5.72, 5.78, 5.9], [5.7, 5.77, 5.75, 5.86, 5.93])
    numbers = {"mean": [5.75, 5.802], "std": [0.0959, 0.0915], "n": 5, "t": -5.0991, "p": 0.007}

    found = reporting.check_summary(numbers)

    assert found.passed
    assert "unless the test was a paired one of 5 pairs" in found.unless[0].message
    assert "correlation is then 0.97" in found.unless[0].message
    assert not reporting.check_summary(numbers | {"test": "paired t-test"}).unless
    assert reporting.check_summary(numbers | {"test": "Student's"}).findings


@pytest.mark.parametrize("data", [{"foo": 1}, [], [{"foo": 1}], "text", None, {"p": 0.2}, {"n": 3}])
def test_where_nothing_is_read_nothing_has_passed(data):
    found = reporting.check_summary(data)

    assert not found.findings
    assert not found.passed
    assert found.sentence.startswith("no two numbers were found that determine each other")


def test_the_latent_documents_summary_is_read():
    found = reporting.check_summary(LATENT)

    assert found.passed
    assert found.limits == 5  # two stds, the mean's range, two counts
    broken = copy.deepcopy(LATENT)
    broken["gsm8k"]["accuracy_std"] = -0.73
    assert "negative" in check_summary(broken)[0].message


def test_numbers_of_numpy_and_texts_are_numbers():
    assert reporting.check_summary(
        {
            "mean": np.array([5.72, 5.79]),
            "std": np.array([0.08, 0.12]),
            "n": np.int64(5),
            "t": np.float32(-1.085),
        }
    ).passed
    texts = {"mean": ["5.72", "5.79"], "std": ["0.08", "0.12"], "n": "5", "p": "p < 0.01"}
    texts["test"] = "Welch"
    assert "p = 0.01" in check_summary(texts)[0].message
    assert not check_summary(texts | {"p": "0.31"})


def test_a_zero_that_was_printed_counts():
    """5.70 is not 5.7: its interval is a tenth as wide."""
    arm = {"mean": "10.00", "std": "1.00", "cv_percent": "10.4"}

    assert check_summary([arm])
    assert not check_summary([arm | {"mean": "10", "std": "1"}])


def test_a_comparison_of_another_number_of_seeds_than_its_arms():
    arm = {"ppl": {"mean": 5.72, "std": 0.08, "n": 10}}
    test = {"t_stat": -1.085, "p_value": 0.3094, "n": 5}
    summary = {"model": {"a": arm, "b": arm, "ttest_a_vs_b": test}}

    assert "n = 5 in the comparison, but 10 in the arm" in check_summary(summary)[0].message
    summary["model"]["ttest_a_vs_b"] = test | {"looks": [5, 10]}
    assert check_summary(summary) == []


def test_the_arms_of_another_metric_are_not_a_comparisons():
    def arm(ppl, kl):
        return {"ppl": {"mean": ppl, "std": 0.08}, "kl": {"mean": kl, "std": 0.01}}

    methods = {"a": arm(5.72, 0.1), "b": arm(5.79, 0.1)}
    test = {"t_stat": 0.0, "p_value": 1.0, "cohens_d": 0.0}

    assert check_summary({"m": methods | {"ttest_a_vs_b__kl": test}}, n=5) == []
    assert check_summary({"m": methods | {"ttest_a_vs_b": test}}, n=5)


def test_the_simulation_of_consistent_and_altered_tables(tmp_path):
    """A small round of a script whose table is in the docs."""
    spec = importlib.util.spec_from_file_location("check_simulated", SCRIPT)
    simulation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(simulation)
    rng = np.random.default_rng(3)

    _, convicted, unless, _ = simulation.false_alarms(rng, 160, tmp_path)

    assert convicted.total() == 0
    assert unless["paired"] > 5
    assert all(simulation.detected(rng, what, 8) == 1 for what in simulation.ALTERED)
