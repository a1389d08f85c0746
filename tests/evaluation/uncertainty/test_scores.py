"""The scores' identities, and what is undefined."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation.uncertainty import likelihood, relevance, relevant, semantic
from benchsuite.evaluation.uncertainty.registry import SCORES
from benchsuite.evaluation.uncertainty.relevance import Relevance, weighted_nll
from benchsuite.evaluation.uncertainty.scores import Tools, score
from benchsuite.evaluation.uncertainty.similarity import lexical
from tests.evaluation.uncertainty.answers_for_tests import answer, asked

LOG_PROBS = st.lists(st.floats(-20, -1e-6), min_size=1, max_size=12)


def values(name, *questions, tools=None):
    return score(name, questions, tools or Tools()).values


@given(log_probs=LOG_PROBS)
def test_uniform_relevance_gives_the_mean_nll_and_one_hot_that_tokens(log_probs):
    array = np.array(log_probs)
    assert weighted_nll(array, np.full(len(array), 0.3)) == pytest.approx(-array.mean())
    for t, value in enumerate(array):
        one_hot = np.zeros(len(array))
        one_hot[t] = 0.7
        assert weighted_nll(array, one_hot) == pytest.approx(-value)
    assert weighted_nll(array, np.zeros(len(array))) == pytest.approx(-array.sum())


@given(log_probs=LOG_PROBS, shares=st.lists(st.floats(0.01, 1), min_size=12, max_size=12))
def test_a_weighted_nll_lies_between_the_tokens_and_knows_no_scale(log_probs, shares):
    array, weights = np.array(log_probs), np.array(shares[: len(log_probs)])
    found = weighted_nll(array, weights)
    assert -array.max() - 1e-9 <= found <= -array.min() + 1e-9
    assert weighted_nll(array, 5 * weights) == pytest.approx(found)


def test_g_nll_is_the_sum_and_mean_nll_the_mean():
    one = asked(answer("the city of Paris", -0.5, -1, -0.25, -2))
    assert values("g_nll", one) == [3.75]
    assert values("mean_nll", one) == [3.75 / 4]


def test_rw_gnll_weighs_by_what_a_token_changes():
    def only_paris_matters(pairs):
        return np.array([0.0 if "Paris" not in left else 1.0 for _, left in pairs])

    one = asked(answer("the city of Paris", -0.5, -1, -0.25, -2))
    tools = Tools(relevance=Relevance(only_paris_matters))
    assert values("rw_gnll", one, tools=tools) == [2]


def test_relevance_is_kept_by_question_and_answer():
    seen = []

    def counting(pairs):
        seen.extend(pairs)
        return lexical(pairs)

    kept = Relevance(counting)
    first = asked(answer("Paris France"))
    second = asked(answer("Paris France"), question="Where is the Louvre, and in which country?")
    pairs = [(one.question, one.greedy) for one in (first, second)]
    before = kept.of(pairs)
    assert len(seen) == 4
    assert not np.array_equal(*before)
    again = kept.of(pairs[::-1])
    assert len(seen) == 4
    np.testing.assert_array_equal(again[0], before[1])


def test_a_similarity_above_one_by_rounding_makes_no_negative_relevance():
    kept = Relevance(lambda pairs: np.full(len(pairs), 1 + 1e-12))
    one = asked(answer("a b c"))
    assert kept.of([(one.question, one.greedy)])[0].tolist() == [0, 0, 0]


def test_predictive_entropy_is_the_mean_over_samples_of_the_mean_over_tokens():
    one = asked(answer(), answer("a b", -1, -3), answer("c", -4), answer(""))
    assert values("predictive_entropy", one) == [3.0]


def test_string_entropy_counts_normalised_answers():
    same = asked(answer(), *[answer(text) for text in ("Paris", "the Paris.", " paris ")])
    spread = asked(answer(), *[answer(text) for text in ("Paris", "Rome", "Oslo", "no answer")])
    half = asked(answer(), *[answer(text) for text in ("Paris", "Rome", "paris", "ROME")])
    found = values("string_entropy", same, spread, half)
    np.testing.assert_allclose(found, [0, math.log(4), math.log(2)], atol=1e-12)


def entails_within(groups):
    """Return an entailment that holds within each of these groups of words."""

    def entails(pairs):
        ends = [(a.split()[-1], b.split()[-1]) for a, b in pairs]
        return np.array([any(a in g and b in g for g in groups) for a, b in ends], bool)

    return entails


def test_semantic_entropy_sums_the_likelihoods_of_what_means_the_same():
    samples = [answer("Paris", -1.0), answer("Lutetia", -2.0), answer("Rome", -1.0)]
    tools = Tools(entailment=entails_within([{"Paris", "Lutetia"}, {"Rome"}]))
    (found,) = values("semantic_nli", asked(answer(), *samples), tools=tools)
    mass = np.array([math.exp(-1) + math.exp(-2), math.exp(-1)])
    p = mass / mass.sum()
    assert found == pytest.approx(-(p * np.log(p)).sum())
    apart = Tools(entailment=entails_within([]))
    (found,) = values("semantic_nli", asked(answer(), *[answer("a"), answer("b")]), tools=apart)
    assert found == pytest.approx(math.log(2))


def test_discrete_semantic_entropy_counts_the_members_of_clusters():
    """Unlike strings of one meaning count as one, and likelihoods count for nothing."""
    samples = [answer("Paris", -1.0), answer("Lutetia", -9.0), answer("Rome", -1.0)]
    tools = Tools(entailment=entails_within([{"Paris", "Lutetia"}, {"Rome"}]))
    (found,) = values("semantic_discrete", asked(answer(), *samples), tools=tools)
    assert found == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))
    (strings,) = values("string_entropy", asked(answer(), *samples))
    assert strings == pytest.approx(math.log(3))
    assert values("semantic_sets", asked(answer(), *samples), tools=tools) == [2]
    same = asked(answer(), *[answer("Paris", -1.0), answer("Lutetia", -2.0)])
    assert values("semantic_sets", same, tools=tools) == [1]
    assert values("semantic_discrete", same, tools=tools) == [0]
    for name in ("semantic_discrete", "semantic_nli", "semantic_sets"):
        empty = score(name, [asked(answer(), answer(""))], tools)
        assert empty.reasons == {"no sampled answer has a token": 1}
    unasked = score("string_entropy", [asked(answer())], tools)
    assert unasked.reasons == {"no answer was sampled": 1}


def test_entailment_one_way_is_not_enough_for_a_cluster():
    texts = ["a", "b", "c"]
    one_way = np.array([True])

    def entails(pairs):
        return np.array([pair in {("a", "b"), ("b", "c"), ("c", "b")} for pair in pairs])

    assert semantic.clusters(texts, entails).tolist() == [0, 1, 1]
    assert semantic.clusters(["a", "a"], lambda pairs: one_way[:0]).tolist() == [0, 0]


def test_sar_is_its_formula():
    samples = [answer("Paris", -1.0), answer("Parisian", -2.0), answer("Rome", -0.5)]
    one = asked(answer(), *samples)
    (found,) = values("sar", one)
    p = np.exp([-1.0, -2.0, -0.5])  # one token each: its own NLL, whatever its relevance
    texts = [f"{one.question.question} {sample.text}" for sample in samples]
    similar = np.array([[lexical([(a, b)])[0] for b in texts] for a in texts])
    np.fill_diagonal(similar, 0)
    expected = np.mean(-np.log(p + similar @ p / relevant.TEMPERATURE))
    assert found == pytest.approx(expected)


def test_answers_alike_are_surer_under_sar():
    alike = asked(answer(), answer("Paris", -1), answer("Paris", -1))
    apart = asked(answer(), answer("Paris", -1), answer("Xyzzy", -1))
    found = values("sar", alike, apart)
    assert found[0] < found[1]


def test_the_control_shuffles_g_nll_by_the_seed():
    questions = [asked(answer("x", -float(n))) for n in range(1, 30)]
    first, again, other = (
        score("shuffled", questions, Tools(seed=seed)).values for seed in (1, 1, 2)
    )
    plain = score("g_nll", questions, Tools()).values
    assert sorted(first) == sorted(plain)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, plain)
    assert not np.array_equal(first, other)


def test_nothing_is_dropped_silently():
    questions = [asked(answer("")), asked(answer("x"), answer("")), asked(answer("x"), answer("y"))]
    found = score("predictive_entropy", questions, Tools())
    assert found.defined.tolist() == [False, False, True]
    assert found.reasons == {
        "the answer has no token": 1,
        "no sampled answer has a token": 1,
    }
    assert score("g_nll", questions, Tools()).reasons == {"the answer has no token": 1}
    assert score("g_nll", [], Tools()).values.shape == (0,)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([1.0], "gave 1 values for 2 answers"),
        ([1.0, 2.0, 3.0], "gave 3 values for 2 answers"),
        ([1.0, "high"], "of question q is 'high', not a finite number"),
        ([None, 1.0], "of question q is None, not a finite number"),
        ([math.inf, 1.0], "of question q is inf, not a finite number"),
    ],
)
def test_a_score_that_cannot_rank_is_refused_by_name(made, said, monkeypatch):
    """One value too many shifted nothing and was dropped; None was a question less, unsaid."""
    monkeypatch.setattr(likelihood, "g_nll", lambda asked, tools: made)
    with pytest.raises(BenchsuiteError, match=f"the score g_nll {said}"):
        score("g_nll", [asked(answer()), asked(answer("")), asked(answer())], Tools())


def test_a_score_without_a_number_is_counted_as_undefined(monkeypatch):
    monkeypatch.setattr(likelihood, "g_nll", lambda asked, tools: np.array([np.nan, 2]))
    found = score("g_nll", [asked(answer()), asked(answer())], Tools())
    assert found.reasons == {"the score is not a number": 1}
    assert found.values[1] == 2


def test_an_unknown_score_is_named_with_its_nearest():
    with pytest.raises(BenchsuiteError, match="g_nll"):
        score("gnll", [asked(answer())], Tools())


def test_every_score_has_a_name_of_its_own():
    for name in SCORES:
        assert not [other for other in SCORES if other != name and name in other]


# --- similarity


@given(first=st.text(max_size=30), second=st.text(max_size=30))
def test_lexical_similarity_is_a_similarity(first, second):
    there, back, own = lexical([(first, second), (second, first), (first, first)])
    assert there == pytest.approx(back)
    assert 0 <= there <= 1 + 1e-9
    assert own == 1


def test_lexical_similarity_knows_letters_not_case():
    same, near, far = lexical([("Paris", " PARIS "), ("Paris", "Parisian"), ("Paris", "Rome")])
    assert same == 1 > near > far == 0
    assert relevance.Relevance(lexical).of([]) == []
