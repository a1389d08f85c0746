"""The scores that LM-Polygraph has too: its values on the same stored generations.

``lm_polygraph.json`` holds the generations, how alike their texts are, and what the estimators of
the version that it names made of them.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from benchsuite import statistics
from benchsuite.embedded.schema import Question
from benchsuite.evaluation.uncertainty.answers import Answer, Asked
from benchsuite.evaluation.uncertainty.relevance import Relevance
from benchsuite.evaluation.uncertainty.scores import Tools, score

STORED = json.loads(Path(__file__).with_suffix("").with_name("lm_polygraph.json").read_text())


def stored():
    """Return the stored questions, and how alike two texts of them are: pair -> 0 to 1."""
    asked, alike = [], {}
    for row in STORED["questions"]:
        question = row["question"]
        samples = [kept(question, given, alike) for given in row["samples"]]
        greedy = kept(question, row["greedy"], alike)
        texts = [sample.text for sample in samples]
        for i, a in enumerate(texts):
            alike[greedy.text, a] = alike[a, greedy.text] = row["greedy_alike"][i]
            for j, b in enumerate(texts):
                alike[a, b] = alike[f"{question} {a}", f"{question} {b}"] = row["alike"][i][j]
        asked.append(Asked(Question("q", question, ("x",)), greedy, tuple(samples)))
    return asked, alike


def kept(question, given, alike):
    n = len(given["log_probs"])
    without = tuple(f"{given['text']} without {t}" for t in range(n))
    for left, relevance in zip(without, given["relevance"], strict=True):
        alike[f"{question} {given['text']}", f"{question} {left}"] = 1 - relevance
    return Answer(
        given["text"],
        np.arange(n),
        np.array(given["log_probs"]),
        (),
        without,
        "stop",
        np.array(given.get("entropies", ())),
    )


@pytest.mark.parametrize("name", STORED["theirs"])
def test_a_shared_score_has_lm_polygraph_s_values(name):
    asked, alike = stored()

    def similarity(pairs):
        return np.array([alike[pair] for pair in pairs])

    tools = Tools(relevance=Relevance(similarity), entailment=lambda p: similarity(p) > 0.3)
    found = score(name, asked, tools)
    assert found.reasons == {}
    np.testing.assert_allclose(found.values, STORED["theirs"][name], rtol=1e-7, atol=1e-8)


def test_the_prediction_rejection_ratio_is_lm_polygraph_s():
    given = STORED["prr"]
    curve = statistics.rejection_curve(given["wrong"], given["scores"])
    assert curve.ratio == pytest.approx(given["ratio"])
