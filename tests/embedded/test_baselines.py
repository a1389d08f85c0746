import math
from collections import Counter

import numpy as np
import pytest

from benchsuite.embedded import baselines
from benchsuite.embedded.schema import Choice, Problem, Question


def slow_kneser_ney(ids, order, vocabulary):
    """Chen and Goodman's recursion, straight from the definition, with dictionaries."""
    tables = []
    for n in range(1, order + 1):
        grams = Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
        if n < order:
            # Lower orders see only what stands at the end of a whole window of the highest.
            longer = {tuple(ids[i : i + order]) for i in range(len(ids) - order + 1)}
            grams = Counter(gram[1:] for gram in {g[-n - 1 :] for g in longer})
        tables.append(grams)

    def discount(grams, count):
        n = Counter(grams.values())
        if not n[1] or not n[2]:
            return 0.5
        y = n[1] / (n[1] + 2 * n[2])
        if count == 1:
            return min(max(1 - 2 * y * n[2] / n[1], 0.1), 1)
        if count == 2:
            return min(max(2 - 3 * y * n[3] / n[2], 0.1), 2)
        return min(max(3 - 4 * y * n[4] / n[3] if n[3] else 1, 0.1), 3)

    def p(gram):
        if not gram:
            return 1 / vocabulary
        grams = tables[len(gram) - 1]
        followers = {g: c for g, c in grams.items() if g[:-1] == gram[:-1]}
        if not followers:
            return p(gram[1:])
        total = sum(followers.values())
        kept = max(grams[gram] - discount(grams, grams[gram]), 0) if gram in followers else 0
        freed = sum(discount(grams, c) for c in followers.values())
        return (kept + freed * p(gram[1:])) / total

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_equals_the_definition(order):
    rng = np.random.default_rng(0)
    train = (rng.geometric(0.3, 300) % 9).tolist()
    test = (rng.geometric(0.25, 60) % 10).tolist()
    model = baselines.KneserNey(np.array(train), order=order, vocabulary=10)
    p = slow_kneser_ney(train, order, 10)
    expected = [math.log(p(tuple(test[i : i + order]))) for i in range(len(test) - order + 1)]
    np.testing.assert_allclose(model.log_probabilities(np.array(test)), expected, rtol=1e-12)


@pytest.mark.parametrize("context", [[0, 1, 2, 3], [9, 9, 9, 9], [3, 3, 0, 1]])
def test_kneser_ney_sums_to_one(context):
    train = np.random.default_rng(1).geometric(0.4, 2000) % 8
    model = baselines.KneserNey(train, order=5, vocabulary=10)
    total = sum(math.exp(model.log_probabilities(np.array([*context, w]))[0]) for w in range(10))
    assert total == pytest.approx(1, abs=1e-12)


def test_kneser_ney_by_hand():
    # Bigrams of a b a b a c: ab 2, ba 2, ac 1. Their counts of counts give n1 = 1, n2 = 2, so
    # y = 1/5, D1 = 1 - 2(1/5)(2/1) = 1/5, D2 = 2. Each of a, b, c follows one other token, so all
    # the unigrams have the count 1, there is no n2, and the discounts are 1/2.
    model = baselines.KneserNey(np.array([0, 1, 0, 1, 0, 2]), order=2, vocabulary=4)
    unigram = {w: (1 - 0.5) / 3 + 0.5 * 1 / 4 for w in range(3)} | {3: 0.5 / 4}
    freed = (2 + 0.2) / 3  # after a
    expected = [0 / 3 + freed * unigram[1], 0.8 / 3 + freed * unigram[2], unigram[3]]
    found = [model.log_probabilities(np.array(pair))[0] for pair in ([0, 1], [0, 2], [2, 3])]
    np.testing.assert_allclose(np.exp(found), expected)


def test_kneser_ney_refuses_what_int64_cannot_hold():
    with pytest.raises(ValueError, match="int64"):
        baselines.KneserNey(np.arange(9), order=6, vocabulary=2048)


def test_trivial_answers_to_questions():
    def question(text, *aliases):
        return Question("", text, aliases, answerable=bool(aliases))

    train = [
        question("Who taught Ida Lon?", "Max"),
        question("Who taught Eva Lon?", "Max"),
        question("Where was Ida Lon born?", "Rome"),
        *[question("Where was Eva Lon born?")] * 3,
    ]
    test = [
        question("Who taught Ada Mar?", "Max", "M"),
        question("Where was Ada Mar born?", "Oslo"),
        question("Where was Ida Mar born?"),
        question("Who was the one who taught Ida Lon?", "Rome"),
    ]
    assert baselines.trivial(train, test) == {"majority": 0.25, "no_answer": 0.25, "template": 0.5}


def test_trivial_answers_to_choices_and_problems():
    train = [Choice("", "Which is red?", ("a", "b", "c", "d"), n) for n in (1, 1, 3)]
    test = [
        Choice("", "Which is red?", ("d", "c", "a", "b"), 3),
        Choice("", "Which is red?", ("d", "e", "f", "g"), 1),
    ]
    assert baselines.trivial(train, test) == {"majority": 0.5, "template": 1.0}
    problems = [Problem("", f"Ida has {n} pens. How many?", (), str(n)) for n in (5, 5, 7)]
    assert baselines.trivial(problems, problems)["majority"] == pytest.approx(2 / 3)
