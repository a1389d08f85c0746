"""The distances and indices, against values worked out another way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.determinism import compared, l2, statistics
from benchsuite.determinism.numbers import bits_equal, first_difference

TOKENS = np.array([[5, 6, 7], [5, 6, 7], [5, 9, 7]])
LOGPROBS = np.array([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.5], [-1.0, -2.3, -3.4]])


def test_statistics_are_the_documents():
    stats = statistics(TOKENS, LOGPROBS)
    distances = [0.5, math.hypot(0.3, 0.4)]
    assert stats["l2_mean"] == pytest.approx(sum(distances) / 2)
    assert stats["l2_std"] == pytest.approx(abs(distances[0] - distances[1]) / 2, abs=1e-12)
    assert stats["l2_max"] == pytest.approx(0.5)
    assert stats["l2_min"] == pytest.approx(0.5)
    thirds = [-3.0, -3.5, -3.4]
    mean = sum(thirds) / 3
    assert stats["std_per_token_max"] == pytest.approx(
        math.sqrt(sum((x - mean) ** 2 for x in thirds) / 3)
    )
    assert stats["std_per_token_min"] == 0
    assert stats["l2_all_pairs_min"] == pytest.approx(math.hypot(0.3, 0.1))
    assert (stats["first_divergent_index"], stats["first_logprob_difference"]) == (1, 1)
    assert (stats["unique_completions"], stats["repetitions"]) == (2, 3)
    assert not stats["tokens_identical"]
    assert not stats["logprobs_exact"]


def test_one_repetition_is_compared_with_nothing():
    stats = statistics(TOKENS[:1], LOGPROBS[:1])
    unknown = ("l2_mean", "std_per_token_mean", "logprobs_exact", "tokens_identical")
    assert [stats[name] for name in unknown] == [None] * 4
    assert (stats["unique_completions"], stats["repetitions"]) == (1, 1)


def test_exact_means_bits():
    once = np.array([[-1.0, -2.0]])
    nearest = np.nextafter(once, 0)
    assert np.allclose(once, nearest)
    assert not statistics(np.ones((2, 2)), np.concatenate([once, nearest]))["logprobs_exact"]
    assert not bits_equal(np.array([0.0]), np.array([-0.0]))
    assert bits_equal(np.array([np.nan]), np.array([np.nan]))
    assert not bits_equal(np.zeros(2), np.zeros(3))


@given(
    st.integers(1, 12),
    st.integers(0, 11),
    st.floats(1e-7, 10),
)
def test_a_planted_difference_is_found_where_it_is(steps, index, size):
    index = min(index, steps - 1)
    tokens, logprobs = np.arange(steps), -np.linspace(1, 2, steps)
    other_tokens, other = tokens.copy(), logprobs.copy()
    other_tokens[index] += 1
    other[index] -= size
    found = compared(tokens, logprobs, other_tokens, other)
    assert found["first_divergent_index"] == found["first_logprob_difference"] == index
    assert found["l2"] == pytest.approx(size, rel=1e-6)
    assert found["max_abs_difference"] == pytest.approx(size, rel=1e-6)
    assert first_difference(np.stack((logprobs, logprobs))) is None


def test_l2_is_symmetric_and_over_the_common_steps():
    assert l2(LOGPROBS[0], LOGPROBS[2]) == l2(LOGPROBS[2], LOGPROBS[0])
    assert l2(LOGPROBS[0], LOGPROBS[1][:2]) == 0
