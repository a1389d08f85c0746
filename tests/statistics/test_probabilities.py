"""Calibration of probabilities: against scikit-learn and against known probabilities."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from benchsuite.statistics import calibration
from benchsuite.statistics.rejection import rejection_curve


def stated_and_right(rng, n, honest=True):
    stated = rng.random(n)
    return stated, rng.random(n) < (stated if honest else stated**3)


def test_the_brier_score_is_scikit_learns_and_its_interval_covers():
    covered = 0
    for seed in range(300):
        stated, right = stated_and_right(np.random.default_rng(seed), 60)
        found = calibration(right, stated)
        # E[p (1 - p)] over uniform p.
        covered += found.brier_ci95[0] <= 1 / 6 <= found.brier_ci95[1]
    assert found.brier == pytest.approx(brier_score_loss(right, stated))
    bar = 3 * np.sqrt(0.05 * 0.95 / 300)
    assert 0.93 - bar < covered / 300 < 0.97 + bar


def test_the_calibration_error_is_the_mean_distance_of_the_bins():
    stated, right = stated_and_right(np.random.default_rng(0), 1000)
    found = calibration(right, stated)
    assert [part.n for part in found.bins] == [100] * 10
    expected = np.mean([abs(part.right - part.probability) for part in found.bins])
    assert found.ece == pytest.approx(expected)
    assert all(part.low < part.right < part.high for part in found.bins[1:-1])


def test_honest_probabilities_are_called_miscalibrated_no_more_often_than_alpha():
    p_values = []
    for seed in range(200):
        stated, right = stated_and_right(np.random.default_rng(seed), 200)
        p_values.append(calibration(right, stated).ece_p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_overconfidence_is_seen():
    found = calibration(*reversed(stated_and_right(np.random.default_rng(0), 400, honest=False)))
    assert found.ece > 3 * found.ece_calibrated
    assert found.ece_p_value < 0.01
    assert all(part.right <= part.probability + 0.1 for part in found.bins)


def test_equal_probabilities_stay_in_one_bin():
    right = np.arange(40) % 4 > 0
    found = calibration(right, np.full(40, 0.75))
    assert [(part.n, part.right) for part in found.bins] == [(40, 0.75)]
    assert found.ece == 0


def test_what_is_no_probability_is_refused():
    assert "not probabilities" in calibration([True] * 10, [1.2] * 10).reason
    assert "fewer than 10" in calibration([True] * 9, [0.5] * 9).reason
    with pytest.raises(ValueError, match="length"):
        calibration([True], [0.5, 0.5])


def test_the_rejection_ratio_is_1_for_an_oracle_and_0_for_what_knows_nothing():
    wrong = np.arange(60) % 3 == 0
    assert rejection_curve(wrong, wrong).ratio == pytest.approx(1)
    assert rejection_curve(wrong, np.zeros(60)).ratio == pytest.approx(0)
    assert rejection_curve(wrong, ~wrong).ratio < -0.5
    assert rejection_curve(np.zeros(60), wrong).ratio is None
