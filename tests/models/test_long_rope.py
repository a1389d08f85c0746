"""Of LongRoPE's two sets of factors a sequence has one, whatever is read beside it."""

import numpy as np
import pytest
import torch

from benchsuite.evaluation.generation import TOLERANCE, generate, log_likelihoods, sample
from benchsuite.models.long_rope import by_side, settled, turn_of
from tests.models import tiny

TURN, NEW = 32, 8
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "original_max_position_embeddings": TURN,
    "short_factor": [1.0] * 8,
    "long_factor": [1.0 + i for i in range(8)],
}
LENGTHS = (3, 40, 24, 60, 1, 30)  # with the answer the last one turns on the way


@pytest.fixture(scope="module")
def model():
    return tiny.model(
        "phi3",
        vocab_size=258,
        pad_token_id=0,
        original_max_position_embeddings=TURN,
        rope_parameters=ROPE,
    )


@pytest.fixture(scope="module")
def rows():
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(3, 258, (n,), generator=draw).tolist() for n in LENGTHS]


def test_the_turn_is_where_transformers_has_it(model):
    assert turn_of(model) == TURN
    assert turn_of(tiny.model("llama")) is None
    assert by_side(model, [TURN + 1, TURN, 5, 90]) == [[1, 2], [0, 3]]
    assert by_side(tiny.model("llama"), [90, 5]) == [[0, 1]]
    ids = torch.arange(3, 3 + TURN + 1)[None]
    with torch.no_grad():
        for n in (TURN, TURN + 1):
            expected = model(input_ids=ids[:, :n]).logits
            with settled(model, n):
                assert torch.equal(model(input_ids=ids[:, :n]).logits, expected)
            with settled(model, 2 * TURN):  # as the beginning of something longer
                alike = torch.allclose(model(input_ids=ids[:, :n]).logits, expected, atol=1e-4)
            assert alike == (n > TURN)


def test_likelihoods_beside_longer_rows_are_those_alone(model, rows):
    firsts, rests = [row[: len(row) // 2 + 1] for row in rows[:4]], [[7, 9]] * 4
    together = log_likelihoods(model, firsts, rests)
    for first, rest, found in zip(firsts, rests, together, strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([[*first, *rest]])).logits[0].double().log_softmax(-1)
        expected = [float(log_p[len(first) - 1 + i, token]) for i, token in enumerate(rest)]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_an_answer_has_the_factors_of_its_whole_length(model, rows):
    """The most probable token after each beginning, read anew: what a cache must not change."""
    found = generate(model, tiny.tokenizer(), rows, max_new_tokens=NEW)
    for row, answer, log_probs in zip(rows, found.token_ids, found.log_probs, strict=True):
        text, length = list(row), len(row) + NEW
        for token, log_p in zip(answer.tolist(), log_probs, strict=True):
            with torch.no_grad(), settled(model, length):
                logits = model(input_ids=torch.tensor([text])).logits[0, -1]
            assert token == int(logits.argmax())
            assert log_p == pytest.approx(float(logits.log_softmax(-1)[token]), abs=TOLERANCE)
            text.append(token)


def test_drawn_answers_do_not_depend_on_the_batch(model, rows):
    how = {"n_samples": 2, "seed": 5, "max_new_tokens": NEW}
    together = sample(model, tiny.tokenizer(), rows, **how)
    alone = sample(model, tiny.tokenizer(), rows, batch_size=1, **how)
    for one, other in zip(together, alone, strict=True):
        for a, b in zip(one.token_ids, other.token_ids, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_forward_that_another_library_has_put_there_is_kept(model):
    (rotary,) = [m for m in model.modules() if hasattr(m, "inv_freq")]
    own, asked = rotary.forward, []

    def forward(*args, **how):
        asked.append(args)
        return own(*args, **how)

    rotary.forward = forward
    try:
        with settled(model, 2 * TURN), torch.no_grad():
            model(input_ids=torch.tensor([[5, 6]]))
            model(input_ids=torch.tensor([[7]]))
        assert len(asked) == 1  # for the whole table
        assert rotary.forward is forward
    finally:
        del rotary.forward
