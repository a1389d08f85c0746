"""Served tokens against a reference: areas, thresholds, alarms, and what is too little to say."""

import numpy as np
import pytest

from benchsuite.determinism.verification import (
    CLIP,
    LEVEL,
    Served,
    area,
    pairs,
    rates,
    tokens_needed,
)

STEPS = 16


def scores(draw, mismatches, n=80, size=0.2):
    """Scores of ``n`` prompts that have a rate of mismatched tokens of their own each."""
    own = mismatches * draw.gamma(2.0, 0.5, (n, 1))
    return (draw.random((n, STEPS)) < own) * draw.exponential(size, (n, STEPS)).clip(max=CLIP)


def served(values):
    ranks = (values > 0).astype(np.int64)
    return Served(np.arange(values.size).reshape(values.shape), ranks, values)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_count_of_ordered_pairs(seed):
    draw = np.random.default_rng(seed)
    honest, other = draw.integers(0, 6, 40) / 10, draw.integers(1, 7, 30) / 10
    counted = np.mean([(o > h) + 0.5 * (o == h) for h in honest for o in other])
    assert area(honest, other) == pytest.approx(counted, abs=1e-12)


def test_the_reference_itself_raises_no_alarm():
    silent = np.zeros((64, STEPS))
    found = rates(silent, silent)
    assert found["token_auc"] == 0.5
    for row in found["rows"][:3]:
        assert (row["false_alarms"], row["detected"], row["auc"]) == (0.0, 0.0, 0.5)


def test_honest_batches_raise_the_alarm_as_often_as_was_meant():
    """Another set of prompts each time: the mean over sets is within three standard errors."""
    draw = np.random.default_rng(1)
    for n in (30, 300):
        found = []
        for _ in range(40):
            honest = scores(draw, 0.3)
            (row,) = rates(honest, honest, tokens=(n,), seed=int(draw.integers(2**31)))["rows"]
            found.append(row["false_alarms"])
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert np.mean(found) <= LEVEL + 0.01 + 3 * error
        assert np.mean(found) >= LEVEL / 5


def test_more_tokens_tell_a_worse_variant_more_surely():
    draw = np.random.default_rng(2)
    honest, other = scores(draw, 0.05), scores(draw, 0.15)
    found = rates(honest, other)
    detected = [row["detected"] for row in found["rows"][:3]]
    areas = [row["auc"] for row in found["rows"][:3]]
    assert detected == sorted(detected)
    assert areas == sorted(areas)
    assert 0.5 < found["token_auc"] < areas[0] < areas[-1]
    assert detected[-1] > 0.9
    assert tokens_needed(found)["tokens"] <= 300
    assert tokens_needed(rates(honest, honest)) is None


def test_rough_shares_are_named_and_missing_ones_left_out():
    """80 prompts of 16 tokens: 300 tokens take 19 of them, 1000 more than half."""
    values = scores(np.random.default_rng(3), 0.1)
    rows = {row["tokens"]: row for row in rates(values, values)["rows"]}
    assert [rows[n]["batches"] for n in (30, 100, 300, 1000)] == [40, 11, 4, 1]
    assert [rows[n]["few"] for n in (30, 100, 300, 1000)] == [False, False, True, True]
    assert rows[300]["auc"] is not None
    assert rows[1000] == {
        **{"tokens": 1000, "batches": 1, "few": True},
        **dict.fromkeys(("threshold", "false_alarms", "detected", "auc")),
    }


def test_the_same_scores_give_the_same_rates():
    draw = np.random.default_rng(4)
    honest, other = scores(draw, 0.1), scores(draw, 0.2)
    assert rates(honest, other) == rates(honest, other)


def test_a_margin_that_is_large_or_infinite_counts_as_the_clip():
    found = served(np.array([[0.0, 0.25, 30.0, np.inf]]))
    assert found.scores.tolist() == [[0.0, 0.25, CLIP, CLIP]]
    assert found.summary()["same_tokens"] == 0.25


def test_columns_bring_back_what_was_served():
    values = scores(np.random.default_rng(5), 0.3, n=7)
    back = Served.from_columns(served(values).columns())
    assert back.tokens.tolist() == served(values).tokens.tolist()
    assert back.margins.tolist() == values.tolist()
    assert Served.from_columns({"chunk": [1]}) is None


def test_of_two_variants_the_nearer_to_the_reference_is_the_honest_one():
    draw = np.random.default_rng(6)
    found = {
        "far": served(scores(draw, 0.3)),
        "near": served(scores(draw, 0.02)),
        "shorter": served(scores(draw, 0.1)[:, :4]),
    }
    told = pairs(found)
    assert [(pair["honest"], pair["other"]) for pair in told] == [("near", "far")]
    assert told[0]["rows"][1]["detected"] > 0.9
