"""One embedded model and its text, for the tests of other people's libraries."""

import functools

import pytest

from benchsuite import catalog
from benchsuite.corpora.text import load_text
from benchsuite.evaluation.perplexity import tokenize_protocol
from benchsuite.models.pool import ModelPool


@pytest.fixture(scope="session")
def lend():
    """Return a function: each ``with lend() as lease:`` is a module tree of its own."""
    return functools.partial(ModelPool().lease, catalog.model("tiny_llama_1m"))


@pytest.fixture(scope="session")
def text_ids(lend):
    """Return a function (split, n) -> int64 [n], the embedded text's first tokens."""

    def ids(split, n):
        with lend() as lease:
            text = load_text("embedded_text", split).joined[: 5 * n]
            found = tokenize_protocol(lease.tokenizer, text).flatten()
        assert len(found) >= n
        return found[:n]

    return ids
