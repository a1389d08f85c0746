import copy
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from benchsuite import reporting
from benchsuite.reporting import summarise
from benchsuite.study import study
from tests.reporting.factory import CALIBRATION, drawn, grid

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
    import numpy as np

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
