"""Token ids out of text: what a tokenizer's own call gives, without what nobody asks for."""

import numpy as np
import pytest

from benchsuite.calibration.tokens import encode
from benchsuite.embedded import tokenizer as embedded

TEXTS = ("", "def f(x):\n\n    return x + 12", "naïve 日本語 🙂\t\r\n", "</s> <pad> <s>" * 3)


class Slow:
    """A tokenizer that is nothing but a function."""

    def __init__(self, fast):
        self.called = fast

    def __call__(self, text, **options):
        return self.called(text, **options)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_are_those_of_the_tokenizers_own_call(text, special):
    tokenizer = embedded.load()
    expected = tokenizer(text, add_special_tokens=special)["input_ids"]
    tokenizer(["a b", "c"], truncation=True, max_length=2, padding=True)  # must leave no trace
    found = encode(tokenizer, text, special=special)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert encode(Slow(tokenizer), text, special=special).tolist() == expected
