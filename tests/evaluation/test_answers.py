"""Answers to several sets of questions, and what changed of them."""

import numpy as np
import pytest
from scipy import stats

from benchsuite import catalog
from benchsuite.embedded import tasks
from benchsuite.evaluation import answers, arc, maths, squad
from benchsuite.evaluation.answers import Answers, QuestionSet
from benchsuite.models import ModelPool

N = 40


@pytest.fixture(scope="module")
def sets():
    return [tasks.items(n, "test")[:N] for n in ("four_choices", "passages", "word_problems")]


def answered(sets, wrong=()):
    """Answers that are right but for the questions numbered in ``wrong``."""
    choices, passages, problems = sets
    picked = [(item.answer + (i in wrong)) % 4 for i, item in enumerate(choices)]
    said = ["never that" if N + i in wrong else (*p.aliases, "")[0] for i, p in enumerate(passages)]
    solved = [float(p.answer) + (2 * N + i in wrong) for i, p in enumerate(problems)]
    return Answers(
        arc.score(picked, choices),
        squad.score(said, passages),
        maths.score(solved, problems),
    )


def test_flips_count_both_ways_and_the_change_of_accuracy_does_not(sets):
    before, after = answered(sets, wrong={0, 1, 45}), answered(sets, wrong={0, 45, 90, 91, 92})
    found = answers.changed(after, before.correct)
    assert found["flipped"] == pytest.approx(100 * 4 / 120)
    assert found["accuracy_change"] == pytest.approx(100 * (115 - 117) / 120)
    assert found["flipped_by_set"] == pytest.approx({"arc": 2.5, "squad": 0, "maths": 7.5})
    low, high = found["flipped_ci95"]
    interval = stats.binomtest(4, 120).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((100 * interval.low, 100 * interval.high))


def test_the_same_answers_flip_nothing(sets):
    same = answered(sets, wrong={3})
    found = answers.changed(same, same.correct)
    assert (found["flipped"], found["accuracy_change"]) == (0, 0)
    assert found["flipped_ci95"][0] == 0
    assert 2 < found["flipped_ci95"][1] < 4
    assert found["accuracy_change_ci95"][0] < 0 < found["accuracy_change_ci95"][1]


def test_rows_hold_one_line_per_question(sets):
    rows = answered(sets, wrong={0}).rows()
    assert {len(column) for column in rows.values()} == {3 * N}
    assert rows["question_set"].tolist() == ["arc"] * N + ["squad"] * N + ["maths"] * N
    assert not rows["correct"][0]
    assert rows["correct"][1:].all()
    assert rows["question"][N] == sets[1][0].id


def test_a_model_s_answers_are_those_of_each_task_alone(sets):
    few = [part[:6] for part in sets]
    with ModelPool().lease(catalog.model("tiny_llama_1m")) as leased:
        found = answers.ask(
            leased.model,
            leased.tokenizer,
            QuestionSet(few[0], form="listed"),
            QuestionSet(few[1]),
            QuestionSet(few[2], max_new_tokens=96),
        )
        alone = squad.evaluate(leased.model, leased.tokenizer, few[1])
    assert found.squad.predictions == alone.predictions
    assert found.values()["n_questions_asked"] == {"arc": 6, "squad": 6, "maths": 6}
    assert np.array_equal(found.correct[6:12], alone.item_exact)
