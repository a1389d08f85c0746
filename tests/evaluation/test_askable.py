"""Models of families that are not known here are asked in batches where that changes nothing."""

import numpy as np
import pytest

from benchsuite.errors import BenchsuiteError
from benchsuite.evaluation.askable import refuse_unaskable
from benchsuite.evaluation.generation import generate, log_likelihoods
from tests.models import tiny

RECURRENT = {"num_hidden_layers": 2, "block_types": ["recurrent", "attention"], "lru_width": 64}


def test_a_family_that_is_not_known_answers_in_a_batch_as_alone():
    model, tokenizer = tiny.model("gpt_neox", vocab_size=258), tiny.tokenizer()
    refuse_unaskable(model)
    texts = ["x", "An owl sees the moon, and then"]
    together = generate(model, tokenizer, texts, max_new_tokens=6)
    for text, ids in zip(texts, together.token_ids, strict=True):
        (alone,) = generate(model, tokenizer, [text], max_new_tokens=6).token_ids
        np.testing.assert_array_equal(ids, alone)


@pytest.mark.parametrize(
    ("family", "changes", "why"),
    [
        # The padding would be taken into the state, and no cache is handed out.
        ("recurrent_gemma", RECURRENT, "past_key_values"),
        # Its positions begin at 2.
        ("roberta", {"is_decoder": True}, "is predicted otherwise than alone"),
    ],
)
def test_one_whose_batches_predict_otherwise_is_refused(family, changes, why):
    model = tiny.model(family, vocab_size=258, **changes)
    with pytest.raises(BenchsuiteError, match=f"this {family} cannot be asked.*{why}"):
        log_likelihoods(model, [[1, 5, 9], [7]], [[3], [4, 4]])
    with pytest.raises(BenchsuiteError, match="by text alone"):
        generate(model, tiny.tokenizer(), ["x"], max_new_tokens=2)
