"""What the page says of each method's distance to the original."""

import re

import numpy as np
import pytest
from scipy import stats

from benchsuite.reporting import differences, render_page
from benchsuite.reporting.groups import groups_of
from benchsuite.study import Metric, study
from tests.reporting.factory import MEANS, drawn, grid, results

WITH_ORIGINAL = ["fp16", "rtn", "gptq_default", "random", "cola_zero", "noise_tokens"]
OURS = MEANS | {"fp16": 5.47, "rtn": 5.95}
LOWER = Metric("perplexity", better="lower")


@pytest.fixture(scope="module")
def group():
    cells = grid("tiny_llama_1m", methods=WITH_ORIGINAL)
    (found,) = groups_of(cells, drawn(cells, means=OURS))
    return found


def test_an_original_that_runs_once_is_a_constant(group):
    found = differences.from_original(study("calibration_selection"), group, LOWER)
    (base,) = group.values("fp16", "perplexity").values()
    values = np.array(list(group.values("random", "perplexity").values()))
    expected = stats.t.interval(0.95, 4, loc=values.mean() - base, scale=stats.sem(values))
    assert found["random"].value == pytest.approx(values.mean() - base)
    assert (found["random"].low, found["random"].high) == pytest.approx(expected)
    assert found["random"].relative == pytest.approx(values.mean() / base - 1)
    assert found["random"].matters == "worse"
    assert "fp16" not in found


def test_one_run_has_no_interval_and_nothing_is_said_to_matter(group):
    found = differences.from_original(study("calibration_selection"), group, LOWER)["rtn"]
    assert (found.low, found.high, found.matters) == (None, None, "")


def test_one_run_and_equal_runs_are_told_apart(group):
    found = differences.from_original(study("calibration_selection"), group, LOWER)
    axis = differences.shared_axis(found)
    reasons = {method: differences.view(LOWER, found[method], axis)["reason"] for method in found}
    assert reasons["rtn"] == "one run: no interval"
    assert reasons["gptq_default"] == "the same for every seed"
    assert reasons["random"] == ""


def test_seeded_originals_are_paired():
    shared = {1: 5.0, 2: 6.0, 3: 7.5}
    found = differences._difference(LOWER, {1: 5.1, 2: 6.3, 3: 7.6}, shared, once=False)
    expected = stats.t.interval(0.95, 2, *[f([0.1, 0.3, 0.1]) for f in (np.mean, stats.sem)])
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.matters == ""  # the interval holds zero


def test_higher_is_better_turns_the_word():
    higher = Metric("accuracy", better="higher", unit="%", margin="1")
    values, base = {1: 60.0, 2: 60.5, 3: 61.0}, {1: 55.0}
    assert differences._difference(higher, values, base, once=True).matters == "better"
    assert differences._difference(higher, values, base, once=True).relative is None
    small = differences._difference(higher, {1: 55.4, 2: 55.5, 3: 55.6}, base, once=True)
    assert small.low > 0
    assert small.matters == ""  # less than the margin of one point


def test_rows_go_from_the_original_to_the_best_and_end_with_controls():
    cells = grid("tiny_llama_1m", methods=WITH_ORIGINAL)
    page = render_page([results(cells, drawn(cells, means=OURS, std=0.001))])
    rows = re.findall(r'class="method" role="cell"><code>(.*?)</code>', page)
    assert rows == ["fp16", "cola_zero", "random", "gptq_default", "rtn", "noise_tokens"]
    assert "minus fp16" in page


def test_without_an_original_there_is_no_such_column():
    cells = grid("tiny_llama_1m", methods=["random", "cola_zero"])
    assert "minus fp16" not in render_page([results(cells)])


def test_several_runs_beside_one_of_the_original_are_not_called_equal():
    found = differences._difference(LOWER, {1: 5.1, 2: 6.3}, {1: 5.0}, once=False)
    assert found.reason == "one run of the original: no interval"
    assert found.low is None


def test_a_method_without_a_mean_has_no_difference():
    cells = grid("tiny_llama_1m", methods=WITH_ORIGINAL)
    (broken,) = groups_of(cells, drawn(cells, means=OURS | {"random": 1e300}))
    found = differences.from_original(study("calibration_selection"), broken, LOWER)
    assert "random" not in found
    assert "cola_zero" in found
    page = render_page([results(cells, drawn(cells, means=OURS | {"random": 1e300}))])
    assert "00000000000" not in page
