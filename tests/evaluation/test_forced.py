"""What a model expects of tokens, against a plain softmax of its logits."""

import numpy as np
import pytest
import torch

from benchsuite.evaluation.forced import greedy_choices, teacher_forced
from tests.evaluation import embedded_model

PROMPTS = [[(5 * i + n) % 1900 + 7 for i in range(12 + n)] for n in range(3)]


@pytest.fixture(scope="module")
def model():
    return embedded_model.load()[0]


def distributions(model, row):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0].double()
    return (logits - logits.logsumexp(-1, keepdim=True)).numpy()


def test_tokens_their_best_rival_and_its_margin_are_those_of_the_softmax(model):
    for row, found in zip(PROMPTS, teacher_forced(model, PROMPTS), strict=True):
        expected = distributions(model, row)[:-1]
        assert len(found.log_probs) == len(row) - 1
        assert np.abs(found.log_probs - expected[np.arange(len(row) - 1), row[1:]]).max() < 1e-5
        assert np.array_equal(found.best, expected.argmax(-1))
        ordered = np.sort(expected, -1)
        assert np.abs(found.margins - (ordered[:, -1] - ordered[:, -2])).max() < 1e-5


def test_greedy_choices_are_what_reading_them_again_would_choose(model):
    alike = [row[:12] for row in PROMPTS]
    for prompt, made in zip(alike, greedy_choices(model, alike, 9), strict=True):
        (again,) = teacher_forced(model, [[*prompt, *made.best.tolist()]])
        assert np.array_equal(again.best[-9:], made.best)
        assert np.abs(again.log_probs[-9:] - made.log_probs).max() < 1e-4
        assert np.abs(again.margins[-9:] - made.margins).max() < 1e-4
