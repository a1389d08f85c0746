"""Scores from answers' likeness and from token entropies, against other computations."""

import itertools
import math

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchsuite.evaluation.uncertainty import graph, verbalised
from benchsuite.evaluation.uncertainty.relevance import Relevance
from benchsuite.evaluation.uncertainty.scores import Tools, score
from benchsuite.evaluation.uncertainty.similarity import lexical
from tests.evaluation import embedded_model
from tests.evaluation.uncertainty.answers_for_tests import answer, asked

GRAPH = ("degree_matrix", "eccentricity", "eigenvalue", "kernel_language_entropy")
SAME = {"degree_matrix": 0, "eccentricity": 0, "eigenvalue": 1}
WORDS = ("Paris", "Rome", "Oslo", "Bern")


def values(name, *questions, tools=None):
    return score(name, questions, tools or Tools()).values


def unlike(pairs):
    return np.array([float(a == b) for a, b in pairs])


@st.composite
def symmetric(draw):
    n = draw(st.integers(2, 7))
    half = draw(arrays(np.float64, (n, n), elements=st.floats(0, 1)))
    weights = np.triu(half, 1)
    return weights + weights.T + np.eye(n)


def four_alike():
    """The kernel's entropy where all four answers are equal: heat has not spread evenly at t."""
    shares = np.array([1, *3 * [math.exp(-graph.HEAT * 2 * 4)]])
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum())


# --- the graph of the answers


@pytest.mark.parametrize("name", GRAPH)
def test_equal_answers_are_one_set_and_unlike_ones_as_many_as_they_are(name):
    tools = Tools(relevance=Relevance(unlike))
    same, apart = (asked(answer(), *map(answer, texts)) for texts in (["Paris"] * 4, WORDS))
    highest = {"degree_matrix": 3 / 4, "eccentricity": math.sqrt(3), "eigenvalue": 4}
    found = values(name, same, apart, tools=tools)
    assert found[0] == pytest.approx(SAME.get(name, four_alike()), abs=1e-9)
    assert found[1] == pytest.approx(highest.get(name, math.log(4)))
    alone = values(name, asked(answer(), answer("Paris")), tools=tools)
    assert alone[0] == pytest.approx(SAME.get(name, 0), abs=1e-9)


@given(weights=symmetric())
def test_eigenvalues_are_those_of_networkx(weights):
    made = networkx.from_numpy_array(weights)
    values_ = np.linalg.eigvalsh(networkx.normalized_laplacian_matrix(made).toarray())
    expected = sum(max(0.0, 1 - value) for value in values_)
    assert graph.continuous_sets(weights) == pytest.approx(expected, abs=1e-8)


@given(weights=symmetric())
def test_degree_is_the_mean_distance_of_all_pairs(weights):
    n = len(weights)
    distances = [1 - weights[i, j] for i, j in itertools.product(range(n), repeat=2)]
    assert graph.degree(weights) == pytest.approx(sum(distances) / n**2, abs=1e-12)


@given(weights=symmetric())
def test_heat_spreads_as_many_small_steps_do(weights):
    """The kernel as the limit of (1 - tL/k)^k, and its entropy by the matrix logarithm's series."""
    edges = 2 * weights
    degrees = np.diag(edges.sum(1))
    small = np.eye(len(weights)) - graph.HEAT * (degrees - edges) / 2**16
    kernel = np.linalg.matrix_power(small, 2**16)
    correlation = kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    density = torch.tensor(correlation / len(kernel))
    shares = torch.linalg.svdvals(density)
    expected = float(torch.special.entr(shares).sum())
    assert graph.kernel_entropy(weights) == pytest.approx(expected, abs=1e-3)


def test_eccentricity_by_hand_for_two_sets():
    """Two sets of two equal answers: the Laplacian has 0 twice, so two coordinates."""
    weights = np.kron(np.eye(2), np.ones((2, 2)))
    # Any basis of the null space is as good: the projector onto it decides.
    projector = weights / 2
    centre = np.eye(4) - 1 / 4
    expected = math.sqrt(np.trace(centre @ projector @ centre))
    assert graph.spread(weights) == pytest.approx(expected)


def test_weights_are_averaged_over_both_directions_and_lie_between_0_and_1():
    def one_way(pairs):
        return np.array([1.5 if a < b else -0.2 for a, b in pairs])

    found = graph.weights_of(["a", "b", "a"], one_way)
    np.testing.assert_array_equal(found, [[1, 0.5, 1], [0.5, 1, 0.5], [1, 0.5, 1]])


def test_a_sample_without_a_token_is_left_out_of_the_graph():
    tools = Tools(relevance=Relevance(unlike))
    empty = asked(answer(), answer(""))
    some = asked(answer(), answer("Paris"), answer(""), answer("Paris"))
    found = score("degree_matrix", [empty, some], tools)
    assert found.reasons == {"no sampled answer has a token": 1}
    assert found.values[1] == 0
    assert score("cocoa_msp", [empty], tools).reasons == found.reasons


@pytest.mark.parametrize("name", [*GRAPH, "string_entropy"])
def test_equally_unsure_questions_tie_whatever_order_their_answers_came_in(name):
    """Rounding errors once ranked them: an AUROC of 60 questions was .731 where it is .673."""
    counts = (4, 3, 2, 1)
    drawn = [word for word, n in zip(WORDS, counts, strict=True) for _ in range(n)]
    orders = [np.random.default_rng(seed).permutation(drawn) for seed in range(30)]
    mixed = values(name, *(asked(answer(), *map(answer, order)) for order in orders))
    alike = values(name, *(asked(answer(), *[answer(word)] * 10) for word in WORDS))
    fewer = values(name, asked(answer(), *[answer("Paris")] * 9))
    assert len(np.unique(mixed)) == len(np.unique(alike)) == 1
    assert mixed[0] > alike[0]
    if name != "kernel_language_entropy":  # its heat spreads by the number of answers
        assert fewer[0] == alike[0]


# --- CoCoA


def test_cocoa_multiplies_by_the_mean_unlikeness_of_the_samples():
    greedy = answer("in Paris", -0.5, -1.5, entropies=(0.25, 0.75))
    one = asked(greedy, answer("Paris"), answer("Rome"))
    similar = lexical([("in Paris", "Paris"), ("in Paris", "Rome")])
    far = 1 - similar.mean()
    assert 0 < far < 1
    assert values("cocoa_msp", one) == [pytest.approx(2.0 * far)]
    assert values("cocoa_ppl", one) == [pytest.approx(1.0 * far)]
    assert values("cocoa_mte", one) == [pytest.approx(0.5 * far)]
    sure = asked(greedy, answer("in Paris"), answer("in Paris"))
    for name in ("cocoa_msp", "cocoa_ppl", "cocoa_mte"):
        assert values(name, sure) == [0]


# --- token entropies


def test_token_entropy_is_of_the_whole_distribution_at_each_token():
    from benchsuite.evaluation.generation import generate

    model, tokenizer = embedded_model.load()
    text = "Answer the following question as briefly as possible.\n\nQuestion: What?\nAnswer:"
    found = generate(model, tokenizer, [text], max_new_tokens=5, entropies=True)
    ids = [*tokenizer(text)["input_ids"], *found.token_ids[0].tolist()]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    n = len(found.token_ids[0])
    p = logits.softmax(-1)[-n - 1 : -1].numpy()
    np.testing.assert_allclose(found.entropies[0], -(p * np.log(p)).sum(-1), atol=1e-4)
    one = asked(answer("a b", entropies=(0.5, 1.5)))
    assert values("mean_token_entropy", one) == [1.0]
    assert not generate(model, tokenizer, [text], max_new_tokens=5).entropies[0].size


# --- verbalised confidence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 0.8", 0.8),
        (" .75.", 0.75),
        (" 90%", 0.9),
        (" 85", 0.85),
        (" 1.0", 1.0),
        ("0", 0.0),
        (" 1%", 0.01),
        (" 0,9", 0.9),
        (" 90, 80", 0.9),
        (" 9/10", 0.9),
        (" 1 out of 2", 0.5),
        (" 1 / 0", None),
        (" 3/2", None),
        (" -0.3", None),
        (" 0.8-0.9", 0.8),
        (" very sure", None),
        (" 300", None),
        ("", None),
    ],
)
def test_a_probability_is_read_as_it_is_said(text, expected):
    assert verbalised.probability(text) == expected


def test_the_model_is_asked_about_its_own_answer(monkeypatch):
    """Each in its own words; one that exceeds the context costs that question alone."""
    prompts = []

    class Said:
        texts = (" 0.9", " who knows")

    def write(network, tokenizer, given, **how):
        prompts.extend(tokenizer.decode(ids) for ids in given)
        return Said

    monkeypatch.setattr(verbalised, "generate", write)
    model, tokenizer = embedded_model.load()
    far = asked(answer("Bern"), context="why " * model.config.max_position_embeddings)
    questions = [asked(answer("Paris"), context="France."), far, asked(answer("Rome"))]
    found = score("verbalised_confidence", questions, Tools(network=model, tokenizer=tokenizer))
    assert found.values[0] == pytest.approx(0.1)
    assert found.reasons == {
        "its prompt exceeds the model's context": 1,
        "the model said no probability": 1,
    }
    assert "Context: France.\nQuestion: What is the capital of France?\n" in prompts[0]
    assert "Guess: Paris\n" in prompts[0]
    assert prompts[0].endswith("Probability:")
